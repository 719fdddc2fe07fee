// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/vhost.h"

#include <gtest/gtest.h>

#include "tests/unit/backend/fake_vhost.h"

namespace vmm::backend {
namespace {

constexpr int kTap = 77;  // given on, not used

class VhostTest : public testing::Test {
 protected:
  static GuestMemory make_memory() {
    constexpr GuestMemory::Range kRanges[] = {{Gpa{0}, 1 << 20}, {Gpa{1ULL << 32}, 2 << 20}};
    return GuestMemory::create(kRanges).value();
  }
  [[nodiscard]] Vhost::Ring ring(unsigned index) const {
    const uint64_t base = 0x10000ULL * (index + 1);
    return {.index = index,
            .size = 64,
            .descriptors = *memory_.slice(Gpa{base}, 1024),
            .available = *memory_.slice(Gpa{base + 0x1000}, 134),
            .used = *memory_.slice(Gpa{base + 0x2000}, 518),
            .kick = 10 + static_cast<int>(index),
            .call = 20 + static_cast<int>(index),
            .error = 30};
  }
  Result<void> start() {
    const std::array rings{ring(0), ring(1)};
    return vhost_->start(memory_, 1ULL << 32, rings);
  }
  void expect_nothing_held() {
    EXPECT_FALSE(kernel_.running());
    for (const auto& ring : kernel_.state().rings) {
      EXPECT_EQ(ring.kick, -1);
      EXPECT_EQ(ring.call, -1);
      EXPECT_EQ(ring.error, -1);
    }
  }

  const GuestMemory memory_ = make_memory();
  FakeVhost kernel_;
  std::unique_ptr<Vhost> vhost_ = std::move(*Vhost::create(kernel_.control(), kTap));
};

TEST_F(VhostTest, ShowsTheKernelAllOfIt) {
  const auto started = start();
  ASSERT_TRUE(started) << started.error().message;
  const auto state = kernel_.state();
  EXPECT_EQ(state.features, 1ULL << 32);
  ASSERT_EQ(state.memory.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const auto& region = memory_.regions()[i];
    EXPECT_EQ(state.memory[i].guest_phys_addr, region.base.raw);
    EXPECT_EQ(state.memory[i].memory_size, region.mapping.size());
    EXPECT_EQ(state.memory[i].userspace_addr, reinterpret_cast<uint64_t>(region.mapping.data()));
  }
  const auto ram = reinterpret_cast<uint64_t>(memory_.regions()[0].mapping.data());
  for (unsigned i = 0; i < 2; ++i) {
    const auto& ring = state.rings[i];
    EXPECT_EQ(ring.size, 64U);
    EXPECT_EQ(ring.addresses.desc_user_addr, ram + 0x10000 * (i + 1));
    EXPECT_EQ(ring.addresses.avail_user_addr, ram + 0x10000 * (i + 1) + 0x1000);
    EXPECT_EQ(ring.addresses.used_user_addr, ram + 0x10000 * (i + 1) + 0x2000);
    EXPECT_EQ(ring.kick, 10 + static_cast<int>(i));
    EXPECT_EQ(ring.call, 20 + static_cast<int>(i));
    EXPECT_EQ(ring.error, 30);
    EXPECT_EQ(ring.tap, kTap);
  }
}

TEST_F(VhostTest, StopsAndStartsAgain) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(start());
    EXPECT_TRUE(kernel_.running());
    vhost_->stop();
    expect_nothing_held();
  }
  vhost_->stop();
}

TEST_F(VhostTest, OnlyTheRingsThatAreThere) {
  const std::array rings{ring(1)};
  ASSERT_TRUE(vhost_->start(memory_, 0, rings));
  EXPECT_EQ(kernel_.state().rings[0].tap, -1);
  EXPECT_EQ(kernel_.state().rings[1].tap, kTap);
}

TEST_F(VhostTest, WhatIsRefusedIsTakenBack) {
  for (const auto request : {VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM,
                             VHOST_SET_VRING_BASE, VHOST_SET_VRING_ADDR}) {
    kernel_.refuse(request);
    const auto started = start();
    ASSERT_FALSE(started) << std::hex << request;
    EXPECT_NE(started.error().message.find("vhost-net"), std::string::npos) << started.error().message;
    EXPECT_EQ(started.error().code, EIO);
    expect_nothing_held();
    kernel_.refuse_nothing();
  }
  // The first ring has the tap already when the second is refused.
  const std::array rings{ring(0), Vhost::Ring{.index = 1, .descriptors = {}, .available = {}, .used = {}}};
  EXPECT_FALSE(vhost_->start(memory_, 0, rings));
  expect_nothing_held();
  EXPECT_TRUE(start());
}

TEST_F(VhostTest, OneOwner) {
  EXPECT_FALSE(Vhost::create(kernel_.control(), kTap));
  FakeVhost other;
  other.refuse(VHOST_GET_FEATURES);
  EXPECT_FALSE(Vhost::create(other.control(), kTap));
}

}  // namespace
}  // namespace vmm::backend
