// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/transport_core.h"

#include <linux/virtio_config.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"
#include "tests/unit/virtio/probe_device.h"

namespace vmm::virtio {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kAcknowledge = VIRTIO_CONFIG_S_ACKNOWLEDGE;
constexpr unsigned kDriver = VIRTIO_CONFIG_S_DRIVER;
constexpr unsigned kFeaturesOk = VIRTIO_CONFIG_S_FEATURES_OK;
constexpr unsigned kDriverOk = VIRTIO_CONFIG_S_DRIVER_OK;
constexpr unsigned kFailed = VIRTIO_CONFIG_S_FAILED;
constexpr unsigned kNegotiated = kAcknowledge | kDriver | kFeaturesOk;
constexpr unsigned kRunning = kNegotiated | kDriverOk;
constexpr uint64_t kOwnFeature = ProbeDevice::kOwnFeature;

class TransportCoreTest : public testing::Test {
 protected:
  unsigned status() { return driver_.core->status(); }
  TransportCore& core() { return *driver_.core; }
  bool handled_one() {
    driver_.ring(0).add({driver_.ring(0).readable("x")});
    driver_.notify(0);
    return driver_.interrupts.wait([&] { return driver_.ring(0).take_used().has_value(); });
  }

  LoopThread loop_;
  GuestMemory memory_ = make_test_memory();
  ProbeDevice device_{*loop_};
  FakeDriver driver_{device_, memory_};
};

TEST_F(TransportCoreTest, NegotiatesAndRuns) {
  EXPECT_EQ(driver_.offered(), kOwnFeature | kFeatureVersion1 | kFeatureIndirect | kFeatureEventIndex);
  driver_.start(kFeatureVersion1 | kFeatureEventIndex, 16);
  EXPECT_EQ(status(), kRunning);
  EXPECT_TRUE(handled_one());
  EXPECT_EQ(device_.negotiated, kFeatureVersion1 | kFeatureEventIndex);
  EXPECT_EQ(driver_.interrupts.queue_count(0), 1U);
  driver_.settle();
  const int handled = device_.handled;
  core().notify(0);  // a doorbell that came by way of user space
  driver_.settle();
  EXPECT_EQ(device_.handled, handled + 1);
}

TEST_F(TransportCoreTest, DoorbellOfBeforeDriverOkIsHeard) {
  driver_.notify(0);
  driver_.start();
  driver_.ring(0).add({driver_.ring(0).readable("x")});
  driver_.settle();
  driver_.notify(0);
  driver_.wait_used(0);
}

// HG20
TEST_F(TransportCoreTest, QueueSizes) {
  core().set_queue_select(1);
  EXPECT_EQ(core().queue_max_size(), 8);
  EXPECT_EQ(core().queue_size(), 8);
  core().set_queue_size(4);
  EXPECT_EQ(core().queue_size(), 4);
  for (const uint32_t size : {0U, 3U, 9U, 16U, 65535U, 65536U, 65540U, UINT32_MAX}) {
    core().set_queue_size(size);
    EXPECT_EQ(core().queue_size(), 4) << size;
  }
  core().set_queue_enabled(true);
  core().set_queue_size(8);
  core().set_queue_address(QueuePart::used, Half::low, 0x1000);
  EXPECT_EQ(core().queue_size(), 4);
  EXPECT_EQ(core().queue_address(QueuePart::used, Half::low), 0U);
  core().set_queue_enabled(false);
  core().set_queue_size(8);
  EXPECT_EQ(core().queue_size(), 8);
}

// HG21
TEST_F(TransportCoreTest, QueuesAreFrozenFromDriverOkOn) {
  driver_.start(16);
  core().set_queue_select(0);
  const auto config = driver_.ring(0).config();
  core().set_queue_size(8);
  core().set_queue_enabled(false);
  for (const auto part : {QueuePart::descriptors, QueuePart::available, QueuePart::used}) {
    core().set_queue_address(part, Half::low, 0xFFFF'FFF0);
    core().set_queue_address(part, Half::high, 0xFFFF'FFFF);
  }
  EXPECT_EQ(core().queue_size(), 16);
  EXPECT_TRUE(core().queue_enabled());
  EXPECT_EQ(core().queue_address(QueuePart::descriptors, Half::low), config.descriptors.raw);
  EXPECT_EQ(core().queue_address(QueuePart::available, Half::low), config.available.raw);
  EXPECT_EQ(core().queue_address(QueuePart::used, Half::low), config.used.raw);
  EXPECT_EQ(core().queue_address(QueuePart::used, Half::high), 0U);
  EXPECT_TRUE(handled_one());
}

// HG22
TEST_F(TransportCoreTest, UnknownQueues) {
  for (const uint32_t queue : {2U, 0xFFFFU, 0x10000U, UINT32_MAX}) {
    core().set_queue_select(queue);
    EXPECT_EQ(core().queue_select(), queue);
    core().set_queue_size(8);
    core().set_queue_enabled(true);
    EXPECT_EQ(core().queue_max_size(), 0);
    EXPECT_EQ(core().queue_size(), 0);
    EXPECT_FALSE(core().queue_enabled());
    for (const auto part : {QueuePart::descriptors, QueuePart::available, QueuePart::used}) {
      core().set_queue_address(part, Half::low, 1);
      EXPECT_EQ(core().queue_address(part, Half::low), 0U);
    }
  }
}

// HG23
TEST_F(TransportCoreTest, DoorbellsOutOfTurn) {
  const auto ring_all = [&] {
    for (uint32_t queue = 0; queue <= 0xFFFF; ++queue) core().notify(queue);
    core().notify(UINT32_MAX);
    driver_.settle();
  };
  ring_all();
  ASSERT_TRUE(driver_.negotiate(kFeatureVersion1));
  driver_.rings.emplace_back(memory_, Gpa{0x10000}, uint16_t{16});
  driver_.set_up_queue(0, driver_.ring(0).config());  // and queue 1 left disabled
  core().set_status(kRunning);
  ring_all();
  EXPECT_FALSE(driver_.needs_reset());
  core().set_status(0);
  const int handled = device_.handled;
  ring_all();
  EXPECT_EQ(device_.handled, handled);
}

// HG24
TEST_F(TransportCoreTest, DriverOkBeforeItsTime) {
  core().set_status(kAcknowledge | kDriver | kDriverOk);
  EXPECT_EQ(status(), kAcknowledge | kDriver);
  EXPECT_EQ(device_.starts, 0);
  core().set_status(0);
  ASSERT_TRUE(driver_.negotiate(kFeatureVersion1));
  core().set_status(kRunning);  // without any queue: allowed, and nothing to do
  core().set_status(kRunning);
  driver_.settle();
  EXPECT_EQ(device_.starts, 1);
}

// HG25
TEST_F(TransportCoreTest, StatusBitsAreNotTakenBack) {
  driver_.start();
  for (const unsigned value : {kAcknowledge, kNegotiated, kDriverOk, 0x40U, 0x30U}) {
    core().set_status(static_cast<uint8_t>(value));
    EXPECT_EQ(status(), kRunning) << value;
  }
  EXPECT_TRUE(handled_one());
  core().set_status(0xFF);  // includes FAILED
  EXPECT_EQ(status(), kRunning | kFailed);
  driver_.settle();
  const int handled = device_.handled;
  core().notify(0);
  driver_.settle();
  EXPECT_EQ(device_.handled, handled);

  core().set_status(0);
  EXPECT_EQ(status(), 0U);
  core().set_status(0xFF);  // all at once, before any feature: no VERSION_1
  EXPECT_EQ(status(), kAcknowledge | kDriver | kFailed);
  EXPECT_EQ(device_.starts, 1);
}

// HG26, HG27
TEST_F(TransportCoreTest, Features) {
  EXPECT_FALSE(driver_.negotiate(kFeatureVersion1 | 1ULL << 6));  // not offered
  EXPECT_EQ(status(), kAcknowledge | kDriver);
  EXPECT_FALSE(driver_.negotiate(kFeatureVersion1 | 1ULL << 63));
  EXPECT_FALSE(driver_.negotiate(kOwnFeature));  // without VERSION_1
  EXPECT_TRUE(driver_.negotiate(kFeatureVersion1));

  core().set_driver_feature_select(0);
  core().set_driver_features(kOwnFeature);  // too late
  EXPECT_EQ(core().driver_features(), 0U);
  core().set_status(0);
  core().set_status(kAcknowledge | kDriver);
  for (const uint32_t window : {2U, 0x1'0000U, 0x8000'0000U, UINT32_MAX}) {
    core().set_device_feature_select(window);
    core().set_driver_feature_select(window);
    EXPECT_EQ(core().device_features(), 0U);
    core().set_driver_features(0xFFFF'FFFF);
    EXPECT_EQ(core().driver_features(), 0U);
    EXPECT_EQ(core().driver_feature_select(), window);
  }
  core().set_driver_feature_select(1);
  EXPECT_EQ(core().driver_features(), 0U);
  core().set_driver_feature_select(0);
  EXPECT_EQ(core().driver_features(), 0U);
}

TEST_F(TransportCoreTest, BadRingNeedsReset) {
  ASSERT_TRUE(driver_.negotiate(kFeatureVersion1));
  driver_.set_up_queue(0, {8, Gpa{1ULL << 40}, Gpa{}, Gpa{}});
  core().set_status(kRunning);
  EXPECT_EQ(status(), kRunning | VIRTIO_CONFIG_S_NEEDS_RESET);
  EXPECT_EQ(driver_.interrupts.config_count(), 1U);
  core().notify(0);
  driver_.settle();
  EXPECT_EQ(device_.starts, 0);
  core().set_status(0);
  driver_.start();
  EXPECT_TRUE(handled_one());
}

TEST_F(TransportCoreTest, BrokenDriverIsLeftAloneUntilReset) {
  driver_.start();
  driver_.ring(0).offer(9999);
  driver_.notify(0);
  EXPECT_TRUE(driver_.wait_needs_reset());
  driver_.settle();
  EXPECT_EQ(driver_.interrupts.config_count(), 1U);
  const int handled = device_.handled;
  driver_.notify(0);
  driver_.settle();
  EXPECT_EQ(device_.handled, handled);
  core().set_status(static_cast<uint8_t>(status()));  // what a driver writes back changes nothing
  EXPECT_TRUE(driver_.needs_reset());

  core().set_status(0);
  EXPECT_EQ(status(), 0U);
  EXPECT_EQ(device_.stops, 1);
  driver_.start();
  EXPECT_TRUE(handled_one());
}

TEST_F(TransportCoreTest, DeviceMayBreakAtStart) {
  device_.break_at_start = true;
  driver_.start();
  EXPECT_TRUE(driver_.wait_needs_reset());
  driver_.notify(0);
  driver_.settle();
  EXPECT_EQ(device_.handled, 0);
}

TEST_F(TransportCoreTest, ResetWaitsForTheDevice) {
  device_.hold = true;
  device_.stop_delay = 50ms;
  driver_.start();
  for (int i = 0; i < 10; ++i) driver_.ring(0).add({driver_.ring(0).readable("x")});
  driver_.notify(0);
  EXPECT_TRUE(driver_.interrupts.wait([&] { return device_.held == 10; }));
  core().set_status(0);
  EXPECT_FALSE(device_.running);
  EXPECT_EQ(status(), 0U);
  EXPECT_EQ(driver_.interrupts.reset_count(), 1U);
  // From here on the rings are the guest's own again.
  memory_.slice(Gpa{0x10000}, 0x4000)->zero();
  driver_.settle();
  EXPECT_EQ(driver_.ring(0).used_index(), 0);
}

TEST_F(TransportCoreTest, ResetClearsEverything) {
  driver_.start(16);
  core().set_device_feature_select(1);
  core().set_queue_select(1);
  core().set_status(0);
  EXPECT_EQ(status(), 0U);
  EXPECT_EQ(core().queue_select(), 0U);
  EXPECT_EQ(core().device_feature_select(), 0U);
  EXPECT_EQ(core().driver_features(), 0U);
  EXPECT_EQ(core().queue_size(), 64);
  EXPECT_FALSE(core().queue_enabled());
  EXPECT_EQ(core().queue_address(QueuePart::descriptors, Half::low), 0U);
}

// HG28
TEST_F(TransportCoreTest, ManyResets) {
  const int spare = ::dup(0);
  ::close(spare);
  for (int i = 0; i < 2'000; ++i) {
    driver_.start();
    driver_.notify(0);
    core().set_status(0);
  }
  EXPECT_EQ(device_.starts, 2'000);
  EXPECT_EQ(device_.stops, 2'000);
  const int after = ::dup(0);
  ::close(after);
  EXPECT_EQ(after, spare) << "descriptors were left open";
}

TEST_F(TransportCoreTest, ResetsAndRegistersFromSeveralThreads) {
  std::atomic<bool> stop{false};
  std::vector<std::jthread> vcpus;
  for (int i = 0; i < 3; ++i) {
    vcpus.emplace_back([&, i] {
      for (uint32_t n = 0; !stop; ++n) {
        core().set_status(static_cast<uint8_t>(n % 16));
        core().set_queue_select(n % 3);
        core().set_queue_enabled(true);
        core().set_queue_address(QueuePart::used, Half::low, n << 8);
        core().set_driver_feature_select(n & 1);
        core().set_driver_features(n & 1);
        core().notify(n % 4);
        std::array<std::byte, 4> bytes{};
        core().read_config(8, bytes);
        if (i == 0 && n % 7 == 0) core().reset();
      }
    });
  }
  std::this_thread::sleep_for(300ms);
  stop = true;
  vcpus.clear();
  core().reset();
  EXPECT_EQ(device_.starts, device_.stops);
  driver_.start();
  EXPECT_TRUE(handled_one());
}

// HG30, behind the transport's registers
TEST_F(TransportCoreTest, ConfigurationBounds) {
  std::array<std::byte, 8> bytes;
  const auto untouched = [&](uint64_t offset, size_t length) {
    bytes.fill(std::byte{0x5A});
    core().write_config(offset, std::span{bytes}.first(length));
    core().read_config(offset, std::span{bytes}.first(length));
    return bytes[0] == std::byte{0x5A};
  };
  const std::array value{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  core().write_config(8, value);
  std::array<std::byte, 4> back{};
  core().read_config(8, back);
  EXPECT_EQ(back, value);
  for (const uint64_t offset : {uint64_t{9}, uint64_t{12}, uint64_t{4096}, UINT64_MAX, UINT64_MAX - 3}) {
    EXPECT_TRUE(untouched(offset, 4)) << offset;
  }
  core().read_config(8, back);
  EXPECT_EQ(back, value);
}

TEST_F(TransportCoreTest, ConfigurationChangesAreAnnounced) {
  driver_.start();
  driver_.settle();
  const uint32_t before = core().config_generation();
  loop_->call([&] { device_.driver_->notify_config(); });
  EXPECT_NE(core().config_generation(), before);
  EXPECT_EQ(driver_.interrupts.config_count(), 1U);
}

TEST_F(TransportCoreTest, DeviceMayAskToBeCalledAgain) {
  driver_.start();
  driver_.settle();
  const int handled = device_.handled;
  loop_->call([&] { device_.driver_->handle_again(1); });
  driver_.settle();
  EXPECT_EQ(device_.handled, handled + 1);
}

}  // namespace
}  // namespace vmm::virtio
