// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/virtio/fake_driver.h"

#include <linux/virtio_config.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include <gtest/gtest.h>

namespace vmm::virtio {

using namespace std::chrono_literals;

void FakeInterrupts::raise_queue(uint16_t queue, EventLoop& /*loop*/) {
  const std::lock_guard lock{mutex_};
  ++queues_.at(queue);
  raised_.notify_all();
}

void FakeInterrupts::raise_config() {
  const std::lock_guard lock{mutex_};
  ++configs_;
  raised_.notify_all();
}

void FakeInterrupts::connect_queue(uint16_t queue, const EventFd& bell) {
  const std::lock_guard lock{mutex_};
  bells_.at(queue) = &bell;
}

const EventFd* FakeInterrupts::bell(uint16_t queue) const {
  const std::lock_guard lock{mutex_};
  return bells_.at(queue);
}

void FakeInterrupts::reset() {
  const std::lock_guard lock{mutex_};
  bells_.fill(nullptr);
  ++resets_;
}

uint32_t FakeInterrupts::queue_count(uint16_t queue) const {
  const std::lock_guard lock{mutex_};
  return queues_.at(queue);
}

uint32_t FakeInterrupts::config_count() const {
  const std::lock_guard lock{mutex_};
  return configs_;
}

uint32_t FakeInterrupts::reset_count() const {
  const std::lock_guard lock{mutex_};
  return resets_;
}

bool FakeInterrupts::wait(const std::function<bool()>& done) const {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::unique_lock lock{mutex_};
    raised_.wait_for(lock, 1ms);
  }
  return true;
}

FakeDriver::FakeDriver(Device& device, const GuestMemory& guest_memory) : memory(guest_memory) {
  auto made = TransportCore::create(device, memory, interrupts);
  if (!made) std::abort();
  core = std::move(*made);
}

uint64_t FakeDriver::offered() {
  core->set_device_feature_select(0);
  const uint64_t low = core->device_features();
  core->set_device_feature_select(1);
  return low | uint64_t{core->device_features()} << 32;
}

bool FakeDriver::negotiate(uint64_t features) {
  core->set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  core->set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
  core->set_driver_feature_select(0);
  core->set_driver_features(static_cast<uint32_t>(features));
  core->set_driver_feature_select(1);
  core->set_driver_features(static_cast<uint32_t>(features >> 32));
  core->set_status(core->status() | VIRTIO_CONFIG_S_FEATURES_OK);
  return (core->status() & VIRTIO_CONFIG_S_FEATURES_OK) != 0;
}

void FakeDriver::start(uint16_t size) {
  start(offered(), size);
}

void FakeDriver::start(uint64_t features, uint16_t size) {
  ASSERT_TRUE(negotiate(features));
  rings.clear();
  constexpr uint64_t kFirst = 0x10000;
  const uint64_t share =
      (memory.regions().front().mapping.size() - kFirst) / core->queue_count() & ~uint64_t{0xFFF};
  for (uint16_t i = 0; i < core->queue_count(); ++i) {
    core->set_queue_select(i);
    const Gpa base{kFirst + i * share};
    memory.slice(base, 0x4000)->zero();  // what a driver of before left there
    rings.emplace_back(memory, base, std::min(size, core->queue_max_size()));
    set_up_queue(i, rings.back().config());
  }
  core->set_status(core->status() | VIRTIO_CONFIG_S_DRIVER_OK);
}

void FakeDriver::set_up_queue(uint16_t queue, const QueueConfig& config) {
  core->set_queue_select(queue);
  core->set_queue_size(config.size);
  const auto set = [this](QueuePart part, Gpa address) {
    core->set_queue_address(part, Half::low, static_cast<uint32_t>(address.raw));
    core->set_queue_address(part, Half::high, static_cast<uint32_t>(address.raw >> 32));
  };
  set(QueuePart::descriptors, config.descriptors);
  set(QueuePart::available, config.available);
  set(QueuePart::used, config.used);
  core->set_queue_enabled(true);
}

void FakeDriver::notify(uint16_t queue) {
  const uint64_t one = 1;
  ASSERT_EQ(::write(core->doorbell(queue), &one, sizeof one), ssize_t{sizeof one});
}

UsedElement FakeDriver::wait_used(uint16_t queue) {
  std::optional<UsedElement> used;
  const bool came = interrupts.wait([&] { return (used = rings[queue].take_used()).has_value(); });
  EXPECT_TRUE(came) << "nothing came back on queue " << queue;
  return used.value_or(UsedElement{});
}

UsedElement FakeDriver::request(uint16_t queue, std::span<const FakeRing::Buffer> buffers) {
  rings[queue].add(buffers);
  notify(queue);
  return wait_used(queue);
}

bool FakeDriver::needs_reset() const {
  return (core->status() & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

bool FakeDriver::wait_needs_reset() const {
  return interrupts.wait([this] { return needs_reset(); });
}

void FakeDriver::settle() {
  // A turn's events and its posted work come in no particular order: two turns are enough for both.
  for (int i = 0; i < 3; ++i) core->device().loop().call([] {});
}

}  // namespace vmm::virtio
