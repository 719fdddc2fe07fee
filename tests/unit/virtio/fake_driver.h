// SPDX-License-Identifier: Apache-2.0
//
// A driver of one device, for tests: it negotiates, sets up real rings and waits for interrupts as a guest
// does, through the transport core. The device's loop must run on another thread (LoopThread).
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "devices/virtio/transport_core.h"
#include "tests/unit/virtio/fake_ring.h"

namespace vmm::virtio {

// Counts interrupts and lets a test wait for them.
class FakeInterrupts final : public TransportInterrupts {
 public:
  void raise_queue(uint16_t queue, EventLoop& loop) override;
  void raise_config() override;
  void connect_queue(uint16_t queue, const EventFd& bell) override;
  void reset() override;

  [[nodiscard]] uint32_t queue_count(uint16_t queue) const;
  [[nodiscard]] uint32_t config_count() const;
  [[nodiscard]] uint32_t reset_count() const;
  [[nodiscard]] const EventFd* bell(uint16_t queue) const;  // none: not connected
  // Waits, ten seconds at most, until `done` is true; it is looked at after each interrupt and every
  // millisecond.
  bool wait(const std::function<bool()>& done) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable raised_;
  std::array<uint32_t, 16> queues_{};
  std::array<const EventFd*, 16> bells_{};
  uint32_t configs_ = 0;
  uint32_t resets_ = 0;
};

class FakeDriver {
 public:
  FakeDriver(Device& device, const GuestMemory& memory);
  ~FakeDriver() { core->reset(); }
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;

  // All that the device offers, transport bits included.
  [[nodiscard]] uint64_t offered();
  // ACKNOWLEDGE, DRIVER, features, FEATURES_OK: true if the device took them.
  bool negotiate(uint64_t features);
  // New rings for every queue, of at most `size`, and DRIVER_OK. Features as given or all of them.
  void start(uint16_t size = 64);
  void start(uint64_t features, uint16_t size);
  void set_up_queue(uint16_t queue, const QueueConfig& config);

  [[nodiscard]] FakeRing& ring(uint16_t queue) { return rings[queue]; }
  // Rings the doorbell as KVM would.
  void notify(uint16_t queue);
  // The next chain given back; ten seconds at most, then a failure of the test and {}.
  UsedElement wait_used(uint16_t queue);
  // Adds, rings, waits.
  UsedElement request(uint16_t queue, std::span<const FakeRing::Buffer> buffers);
  UsedElement request(uint16_t queue, std::initializer_list<FakeRing::Buffer> buffers) {
    return request(queue, std::span{buffers.begin(), buffers.size()});
  }
  [[nodiscard]] bool needs_reset() const;
  bool wait_needs_reset() const;
  // Runs until everything that is due on the device's loop has been done.
  void settle();

  const GuestMemory& memory;
  FakeInterrupts interrupts;
  std::unique_ptr<TransportCore> core;
  std::vector<FakeRing> rings;
};

}  // namespace vmm::virtio
