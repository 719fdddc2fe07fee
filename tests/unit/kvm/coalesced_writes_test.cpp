// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/coalesced_writes.h"

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace vmm::kvm {
namespace {

constexpr uint32_t kEntries = 170;

// Keeps what is written to it.
struct Recorder final : IoHandler {
  void read(uint64_t /*offset*/, std::span<std::byte> /*out*/) override {}
  void write(uint64_t offset, std::span<const std::byte> in) override {
    uint64_t value = 0;
    std::memcpy(&value, in.data(), in.size());
    seen.emplace_back(offset, value, in.size());
  }
  std::vector<std::tuple<uint64_t, uint64_t, size_t>> seen;
};

class CoalescedWritesTest : public testing::Test {
 protected:
  CoalescedWritesTest() {
    writes.attach(page.data());
    EXPECT_TRUE(mmio.map(0x1000, 0x1000, recorder, "recorder"));
  }
  // KVM's part.
  void keep(uint64_t address, uint64_t value, uint32_t size) {
    auto* const ring = reinterpret_cast<kvm_coalesced_mmio_ring*>(page.data());
    auto& entry = ring->coalesced_mmio[ring->last];
    entry = {};
    entry.phys_addr = address;
    entry.len = size;
    std::memcpy(entry.data, &value, sizeof value);
    __atomic_store_n(&ring->last, (ring->last + 1) % kEntries, __ATOMIC_RELEASE);
  }
  alignas(4096) std::array<std::byte, 4096> page{};
  Bus mmio;
  Recorder recorder;
  CoalescedWrites writes;
};

TEST_F(CoalescedWritesTest, AreMadeOnceAndInOrder) {
  writes.make(mmio);
  EXPECT_TRUE(recorder.seen.empty());
  uint64_t next = 0;
  for (int round = 0; round < 5; ++round) {  // around the ring's end more than once
    recorder.seen.clear();
    for (uint64_t i = 0; i < 100; ++i) keep(0x1000 + i * 8, next + i, i % 2 == 0 ? 4 : 8);
    writes.make(mmio);
    writes.make(mmio);
    ASSERT_EQ(recorder.seen.size(), 100U);
    for (uint64_t i = 0; i < 100; ++i) {
      EXPECT_EQ(recorder.seen[i],
                (std::tuple<uint64_t, uint64_t, size_t>{i * 8, next + i, i % 2 == 0 ? 4 : 8}));
    }
    next += 100;
  }
}

TEST_F(CoalescedWritesTest, NobodyGoesOnBeforeTheyAreMade) {
  for (int round = 0; round < 200; ++round) {
    recorder.seen.clear();
    for (uint64_t i = 0; i < 20; ++i) keep(0x1000, i, 4);
    std::vector<std::jthread> vcpus;
    for (int vcpu = 0; vcpu < 3; ++vcpu) {
      vcpus.emplace_back([this] {
        writes.make(mmio);
        EXPECT_EQ(recorder.seen.size(), 20U);
      });
    }
    vcpus.clear();
  }
}

TEST_F(CoalescedWritesTest, WithoutARingThereAreNone) {
  keep(0x1000, 1, 4);
  CoalescedWrites without;
  without.make(mmio);
  EXPECT_TRUE(recorder.seen.empty());
  writes.make(mmio);
  EXPECT_EQ(recorder.seen.size(), 1U);
}

}  // namespace
}  // namespace vmm::kvm
