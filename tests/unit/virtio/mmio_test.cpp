// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <unistd.h>

#include <atomic>
#include <map>

#include <gtest/gtest.h>

#include "devices/virtio/ring_layout.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"
#include "tests/unit/virtio/probe_device.h"

namespace vmm::virtio {
namespace {

constexpr Gpa kBase{0xFEB0'0000};
constexpr uint32_t kNegotiated =
    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;

class CountingLine final : public IrqLine {
 public:
  void set(bool /*level*/) override { ADD_FAILURE() << "the interrupt is edge-triggered"; }
  void pulse() override { ++pulses; }
  std::atomic<uint32_t> pulses{0};
};

class FakeDoorbells final : public DoorbellSink {
 public:
  Result<void> bind(const DoorbellAddress& address, int event_fd) override {
    if (bound.size() == room) return fail("no more doorbells");
    bound[address.match.value_or(~0U)] = event_fd;
    EXPECT_EQ(address.address, kBase.raw + 0x50);
    EXPECT_EQ(address.length, 4U);
    return {};
  }
  void unbind(const DoorbellAddress& address, int event_fd) override {
    EXPECT_EQ(bound.at(*address.match), event_fd);
    bound.erase(*address.match);
  }
  void coalesce(Gpa base, uint64_t size) override { coalesced[base.raw] = base.raw + size; }
  void uncoalesce(Gpa base, uint64_t size) override {
    EXPECT_EQ(coalesced.at(base.raw), base.raw + size);
    coalesced.erase(base.raw);
  }
  [[nodiscard]] bool may_wait(uint64_t offset) const {
    const auto after = coalesced.upper_bound(kBase.raw + offset);
    return after != coalesced.begin() && kBase.raw + offset < std::prev(after)->second;
  }
  std::map<uint64_t, int> bound;
  std::map<uint64_t, uint64_t> coalesced;  // from, end
  size_t room = 16;
};

class MmioTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = MmioTransport::create(device_, memory_, irq_, doorbells_, kBase);
    ASSERT_TRUE(made) << made.error().message;
    mmio_ = std::move(*made);
  }
  void TearDown() override {
    mmio_->reset();
    mmio_.reset();
    EXPECT_TRUE(doorbells_.bound.empty());
    EXPECT_TRUE(doorbells_.coalesced.empty());
  }
  uint32_t get(uint64_t offset) {
    uint32_t value = 0xFFFF'FFFF;
    mmio_->read(offset, std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }
  void set(uint64_t offset, uint32_t value) { mmio_->write(offset, std::as_bytes(std::span{&value, 1})); }
  void set_address(uint64_t low, Gpa address) {
    set(low, static_cast<uint32_t>(address.raw));
    set(low + 4, static_cast<uint32_t>(address.raw >> 32));
  }
  void start() {
    set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(VIRTIO_MMIO_DRIVER_FEATURES, static_cast<uint32_t>(kFeatureVersion1 >> 32));
    set(VIRTIO_MMIO_STATUS, kNegotiated);
    ASSERT_EQ(get(VIRTIO_MMIO_STATUS), kNegotiated);
    ring_ = FakeRing{memory_, Gpa{0x10000}, 16};
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    EXPECT_EQ(get(VIRTIO_MMIO_QUEUE_READY), 0U);
    EXPECT_EQ(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 64U);
    set(VIRTIO_MMIO_QUEUE_NUM, 16);
    set_address(VIRTIO_MMIO_QUEUE_DESC_LOW, ring_.config().descriptors);
    set_address(VIRTIO_MMIO_QUEUE_AVAIL_LOW, ring_.config().available);
    set_address(VIRTIO_MMIO_QUEUE_USED_LOW, ring_.config().used);
    set(VIRTIO_MMIO_QUEUE_READY, 1);
    EXPECT_EQ(get(VIRTIO_MMIO_QUEUE_READY), 1U);
    set(VIRTIO_MMIO_STATUS, kNegotiated | VIRTIO_CONFIG_S_DRIVER_OK);
  }
  // One request through the doorbell in user space, up to its interrupt.
  void request() {
    const uint32_t before = irq_.pulses;
    ring_.add({ring_.readable("x")});
    set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    ASSERT_TRUE(waiter_.wait([&] { return irq_.pulses > before; }));
    EXPECT_TRUE(ring_.take_used());
  }

  LoopThread loop_;
  GuestMemory memory_ = make_test_memory();
  ProbeDevice device_{*loop_};
  CountingLine irq_;
  FakeDoorbells doorbells_;
  FakeInterrupts waiter_;
  FakeRing ring_{memory_, Gpa{0x10000}, 16};
  std::unique_ptr<MmioTransport> mmio_;
};

TEST_F(MmioTest, Identity) {
  EXPECT_EQ(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976U);
  EXPECT_EQ(get(VIRTIO_MMIO_VERSION), 2U);
  EXPECT_EQ(get(VIRTIO_MMIO_DEVICE_ID), 4U);
  set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
  EXPECT_EQ(get(VIRTIO_MMIO_DEVICE_FEATURES), 1U);
  set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
  EXPECT_EQ(get(VIRTIO_MMIO_DEVICE_FEATURES),
            ProbeDevice::kOwnFeature | kFeatureIndirect | kFeatureEventIndex);
  for (const uint64_t offset : {0xB0U, 0xB4U, 0xB8U, 0xBCU}) EXPECT_EQ(get(offset), 0xFFFF'FFFFU);
}

TEST_F(MmioTest, RequestsInterruptUntilAcknowledged) {
  start();
  request();
  EXPECT_EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), uint32_t{VIRTIO_MMIO_INT_VRING});
  request();  // an edge although the last one stands
  set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
  EXPECT_EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), uint32_t{VIRTIO_MMIO_INT_VRING});
  loop_->call([&] { device_.driver_->notify_config(); });
  EXPECT_EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), uint32_t{VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG});
  set(VIRTIO_MMIO_INTERRUPT_ACK, 3);
  EXPECT_EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0U);
}

// A driver that wrote to one of these and then only waits must not wait for nothing.
TEST_F(MmioTest, WhatActsDoesNotWait) {
  for (const auto at :
       {VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_CONFIG})
    EXPECT_FALSE(doorbells_.may_wait(static_cast<uint64_t>(at))) << at;
  for (const auto at : {VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_HIGH})
    EXPECT_TRUE(doorbells_.may_wait(static_cast<uint64_t>(at))) << at;
}

TEST_F(MmioTest, DoorbellsAreBoundByQueue) {
  ASSERT_EQ(doorbells_.bound.size(), 2U);
  start();
  ring_.add({ring_.readable("x")});
  const uint64_t one = 1;
  ASSERT_EQ(::write(doorbells_.bound.at(0), &one, sizeof one), ssize_t{sizeof one});
  EXPECT_TRUE(waiter_.wait([&] { return irq_.pulses == 1; }));
}

TEST_F(MmioTest, RefusedDoorbellFailsCleanly) {
  FakeDoorbells few;
  few.room = 1;
  const auto made = MmioTransport::create(device_, memory_, irq_, few, kBase);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message, "no more doorbells");
  EXPECT_TRUE(few.bound.empty());
}

TEST_F(MmioTest, ResetClearsInterruptsAndQueues) {
  start();
  request();
  set(VIRTIO_MMIO_STATUS, 0x100);  // not a reset
  EXPECT_EQ(get(VIRTIO_MMIO_STATUS), kNegotiated | VIRTIO_CONFIG_S_DRIVER_OK);
  set(VIRTIO_MMIO_STATUS, 0);
  EXPECT_EQ(get(VIRTIO_MMIO_STATUS), 0U);
  EXPECT_EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0U);
  EXPECT_EQ(get(VIRTIO_MMIO_QUEUE_READY), 0U);
  memory_.slice(Gpa{0x10000}, 0x2000)->zero();
  start();
  request();
}

// HG21
TEST_F(MmioTest, QueueRegistersAfterDriverOkChangeNothing) {
  start();
  for (const uint64_t offset : {0x30U, 0x38U, 0x44U, 0x80U, 0x84U, 0x90U, 0x94U, 0xA0U, 0xA4U, 0xC0U}) {
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    set(offset, 0);
    set(offset, 0xFFFF'FFFF);
  }
  set(VIRTIO_MMIO_QUEUE_SEL, 0);
  EXPECT_EQ(get(VIRTIO_MMIO_QUEUE_READY), 1U);
  request();
}

// HG31
TEST_F(MmioTest, EveryOffsetAtEveryWidth) {
  start();
  for (uint64_t offset = 0; offset < MmioTransport::kSize; ++offset) {
    for (const size_t width : {1U, 2U, 4U, 8U}) {
      if (offset + width > MmioTransport::kSize) continue;
      std::array<std::byte, 8> bytes;
      bytes.fill(std::byte{0xFF});
      mmio_->read(offset, std::span{bytes}.first(width));
      const bool is_register = offset < 0x100;
      if (is_register && (width != 4 || offset % 4 != 0)) {
        EXPECT_EQ(bytes[0], std::byte{0xFF}) << offset << " " << width;
      }
      bytes.fill(std::byte{0x00});
      if (offset == VIRTIO_MMIO_STATUS && width == 4) continue;  // would be a reset
      mmio_->write(offset, std::span{bytes}.first(width));
    }
  }
  EXPECT_EQ(get(VIRTIO_MMIO_STATUS), kNegotiated | VIRTIO_CONFIG_S_DRIVER_OK);
  request();
}

TEST_F(MmioTest, ConfigurationSpace) {
  set(VIRTIO_MMIO_CONFIG + 4, 0x1234'5678);
  EXPECT_EQ(get(VIRTIO_MMIO_CONFIG + 4), 0x1234'5678U);
  uint8_t byte = 0;
  mmio_->read(VIRTIO_MMIO_CONFIG + 5, std::as_writable_bytes(std::span{&byte, 1}));
  EXPECT_EQ(byte, 0x56);
  EXPECT_EQ(get(VIRTIO_MMIO_CONFIG + 12), 0xFFFF'FFFFU);
}

}  // namespace
}  // namespace vmm::virtio
