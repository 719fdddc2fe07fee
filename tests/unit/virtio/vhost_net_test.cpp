// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vhost_net.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include "tests/unit/backend/fake_vhost.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"
#include "tests/unit/virtio/fake_net.h"

namespace vmm::virtio {
namespace {

constexpr uint16_t kReceive = 0;
constexpr uint16_t kTransmit = 1;
constexpr uint64_t kVersion1 = 1ULL << 32;
constexpr int kTap = 77;  // given on, not used

void ring_bell(int event) {
  const uint64_t one = 1;
  ASSERT_EQ(::write(event, &one, sizeof one), ssize_t{sizeof one});
}

class VhostNetTest : public testing::Test {
 protected:
  void on_loop(const std::function<void()>& work) { loop_->call(work); }
  [[nodiscard]] uint64_t address(Gpa gpa) const {
    return reinterpret_cast<uint64_t>(memory_.slice(gpa, 1)->iov().iov_base);
  }
  // Runs, as the kernel sees it.
  [[nodiscard]] bool running() {
    driver_->settle();
    return kernel_.running();
  }
  uint16_t status() {
    uint16_t value = 0;
    driver_->core->read_config(offsetof(NetConfig, status), std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }

  LoopThread loop_;
  GuestMemory memory_ = make_test_memory(8 << 20);
  FakeNet tap_;
  backend::FakeVhost kernel_;
  std::unique_ptr<backend::Vhost> vhost_ = std::move(*backend::Vhost::create(kernel_.control(), kTap));
  std::unique_ptr<VhostNet> net_ = std::move(*VhostNet::create(
      *loop_, tap_, *vhost_, memory_, *backend::MacAddress::parse("52:54:00:12:34:56"), "net0"));
  std::optional<FakeDriver> driver_{std::in_place, *net_, memory_};
};

TEST_F(VhostNetTest, OffersWhatTapAndKernelCan) {
  const auto offered = driver_->offered();
  for (const auto feature : {net_feature::kChecksum, net_feature::kGuestTso4, net_feature::kHostTso6,
                             net_feature::kMergeable, net_feature::kStatus, kVersion1}) {
    EXPECT_NE(offered & feature, 0U) << std::hex << feature;
  }
  EXPECT_EQ(offered & (1ULL << 26 | 1ULL << 27), 0U) << "vhost's own bits";

  backend::FakeVhost old;
  old.features &= ~net_feature::kMergeable;
  FakeNet plain;
  plain.can = 0;
  const auto vhost = std::move(*backend::Vhost::create(old.control(), kTap));
  const auto net = VhostNet::create(*loop_, plain, *vhost, memory_, {}, "net1");
  ASSERT_TRUE(net);
  EXPECT_EQ((*net)->features() & (net_feature::kMergeable | net_feature::kChecksum | net_feature::kGuestTso4),
            0U);
}

TEST_F(VhostNetTest, RefusesAKernelThatLacksWhatAllDevicesHave) {
  for (const auto bit : {28, 29, 32}) {
    backend::FakeVhost old;
    old.features &= ~(1ULL << bit);
    const auto vhost = std::move(*backend::Vhost::create(old.control(), kTap));
    const auto net = VhostNet::create(*loop_, tap_, *vhost, memory_, {}, "net1");
    ASSERT_FALSE(net) << bit;
    EXPECT_NE(net.error().message.find("leave out vhost"), std::string::npos) << net.error().message;
  }
}

TEST_F(VhostNetTest, GivesTheKernelWhatTheDriverSetUp) {
  driver_->start(64);
  ASSERT_TRUE(running());
  const auto state = kernel_.state();
  EXPECT_EQ(state.features, kVersion1 | 1ULL << 28 | 1ULL << 29 | net_feature::kMergeable);
  for (const uint16_t queue : {kReceive, kTransmit}) {
    const auto config = driver_->ring(queue).config();
    const auto& ring = state.rings[queue];
    EXPECT_EQ(ring.size, 64U);
    EXPECT_EQ(ring.addresses.desc_user_addr, address(config.descriptors));
    EXPECT_EQ(ring.addresses.avail_user_addr, address(config.available));
    EXPECT_EQ(ring.addresses.used_user_addr, address(config.used));
    EXPECT_EQ(ring.kick, driver_->core->doorbell(queue));
    ASSERT_NE(driver_->interrupts.bell(queue), nullptr) << "the transport may have it go past us";
    EXPECT_EQ(ring.call, driver_->interrupts.bell(queue)->get());
    EXPECT_EQ(ring.tap, kTap);
  }
  on_loop([&] {
    EXPECT_EQ(tap_.accepts, tap_.can);
    EXPECT_TRUE(tap_.running()) << "or nobody would hear of its link";
    EXPECT_FALSE(tap_.wants) << "the kernel reads from it, not we";
  });
}

TEST_F(VhostNetTest, OnlyFeaturesThatWereNegotiated) {
  driver_->start(kVersion1 | net_feature::kMac, 64);
  ASSERT_TRUE(running());
  EXPECT_EQ(kernel_.state().features, kVersion1);
  on_loop([&] { EXPECT_EQ(tap_.accepts, 0U); });
}

TEST_F(VhostNetTest, DoorbellsAreTheKernelsAndItsCallsInterrupt) {
  driver_->start(64);
  ASSERT_TRUE(running());
  const int kick = driver_->core->doorbell(kTransmit);
  uint64_t count = 0;
  ASSERT_EQ(::read(kick, &count, sizeof count), ssize_t{sizeof count}) << "it looks once at its start";
  driver_->notify(kTransmit);
  driver_->settle();
  EXPECT_EQ(::read(kick, &count, sizeof count), ssize_t{sizeof count}) << "somebody here took the ring";
  EXPECT_EQ(count, 1U);

  EXPECT_EQ(driver_->interrupts.queue_count(kReceive), 0U);
  ring_bell(kernel_.state().rings[kReceive].call);
  EXPECT_TRUE(driver_->interrupts.wait([&] { return driver_->interrupts.queue_count(kReceive) == 1; }));
  ring_bell(kernel_.state().rings[kTransmit].call);
  EXPECT_TRUE(driver_->interrupts.wait([&] { return driver_->interrupts.queue_count(kTransmit) == 1; }));
  EXPECT_EQ(driver_->interrupts.queue_count(kReceive), 1U);
}

TEST_F(VhostNetTest, ResetTakesEverythingAway) {
  for (int i = 0; i < 3; ++i) {
    driver_->start(64);
    ASSERT_TRUE(running());
    const int call = ::dup(kernel_.state().rings[kReceive].call);
    driver_->core->reset();
    EXPECT_FALSE(kernel_.running());
    EXPECT_EQ(kernel_.state().rings[kReceive].kick, -1);
    on_loop([&] { EXPECT_FALSE(tap_.running()); });
    ring_bell(call);  // is news of a driver of before to the next one
    ::close(call);
  }
  driver_->start(64);
  ASSERT_TRUE(running());
  EXPECT_EQ(driver_->interrupts.queue_count(kReceive), 0U);
}

TEST_F(VhostNetTest, ABrokenRingNeedsReset) {
  for (int i = 0; i < 2; ++i) {
    driver_->start(64);
    ASSERT_TRUE(running());
    EXPECT_FALSE(driver_->needs_reset());
    ring_bell(kernel_.state().rings[kTransmit].error);
    EXPECT_TRUE(driver_->wait_needs_reset());
    EXPECT_FALSE(running());
    EXPECT_EQ(driver_->interrupts.config_count(), static_cast<uint32_t>(i + 1));
    driver_->core->reset();
  }
}

TEST_F(VhostNetTest, TheKernelSeesNoRingOutsideMemory) {
  for (const uint64_t bad :
       {uint64_t{8} << 20, (uint64_t{8} << 20) - 64, ~uint64_t{0xFFFF}, uint64_t{0x10008}}) {
    ASSERT_TRUE(driver_->negotiate(driver_->offered()));
    driver_->set_up_queue(
        kReceive, {.size = 64, .descriptors = Gpa{bad}, .available = Gpa{0x20000}, .used = Gpa{0x30000}});
    driver_->core->set_status(driver_->core->status() | 4);  // DRIVER_OK
    EXPECT_TRUE(driver_->wait_needs_reset()) << std::hex << bad;
    EXPECT_FALSE(running());
    EXPECT_EQ(kernel_.state().rings[kReceive].addresses.desc_user_addr, 0U);
    driver_->core->reset();
  }
}

TEST_F(VhostNetTest, ADisabledQueueIsLeftAlone) {
  ASSERT_TRUE(driver_->negotiate(kVersion1));
  const FakeRing ring{memory_, Gpa{0x10000}, 16};
  driver_->set_up_queue(kTransmit, ring.config());
  driver_->core->set_status(driver_->core->status() | 4);
  ASSERT_TRUE(running());
  EXPECT_EQ(kernel_.state().rings[kReceive].tap, -1);
  EXPECT_EQ(kernel_.state().rings[kTransmit].tap, kTap);
}

TEST_F(VhostNetTest, WhatTheKernelRefusesNeedsReset) {
  kernel_.refuse(VHOST_SET_MEM_TABLE);
  driver_->start(64);
  EXPECT_TRUE(driver_->wait_needs_reset());
  EXPECT_FALSE(running());
  driver_->core->reset();
  kernel_.refuse_nothing();
  on_loop([&] { tap_.fail_start = true; });
  driver_->start(64);
  EXPECT_TRUE(driver_->wait_needs_reset());
  EXPECT_FALSE(running());
  driver_->core->reset();
  on_loop([&] { tap_.fail_start = false; });
  driver_->start(64);
  EXPECT_TRUE(running());
  EXPECT_FALSE(driver_->needs_reset());
}

TEST_F(VhostNetTest, LinkChangesAreTold) {
  driver_->start(64);
  ASSERT_TRUE(running());
  EXPECT_EQ(status(), NetConfig::kLinkUp);
  on_loop([&] {
    tap_.up = false;
    tap_.link_changed(false);
  });
  EXPECT_TRUE(driver_->interrupts.wait([&] { return driver_->interrupts.config_count() == 1; }));
  EXPECT_EQ(status(), 0U);
  on_loop([&] { tap_.link_changed(true); });
  EXPECT_TRUE(driver_->interrupts.wait([&] { return driver_->interrupts.config_count() == 2; }));
  EXPECT_EQ(status(), NetConfig::kLinkUp);
}

}  // namespace
}  // namespace vmm::virtio
