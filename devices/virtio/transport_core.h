// SPDX-License-Identifier: Apache-2.0
//
// What virtio over PCI and virtio over MMIO share (virtio 1.2, chapters 2 and 3): the status machine, feature
// negotiation, the queues' configuration, device configuration accesses, doorbells and the reset. A transport
// maps its registers to these calls and owns the way interrupts take.
//
// Threads: the register side is called by any vCPU thread, several at once, and is guarded by one mutex. The
// device side runs on the device's loops. A vCPU may wait for the loop (a reset does), the loop never waits
// for a vCPU, and nobody waits with the mutex held.
//
// Ignored: a write that breaks the rules of the registers (an unknown queue, a bad size, a queue changed
// while it is enabled, features after FEATURES_OK, a status bit taken back) changes nothing. Missing:
// RING_RESET, RING_PACKED, NOTIFICATION_DATA.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/log.h"
#include "vmm/core/result.h"

namespace vmm::virtio {

// How a transport interrupts its driver. No lock of the core is held during a call.
class TransportInterrupts {
 public:
  virtual ~TransportInterrupts() = default;
  // Used buffers; from the thread of `loop`, the queue's, and as a part of its turn.
  virtual void raise_queue(uint16_t queue, EventLoop& loop) = 0;
  virtual void raise_config() = 0;  // configuration or status changed; any thread
  // From now until reset(), `bell` is rung for used buffers, by whoever works the queue. A transport whose
  // interrupts can be had of that directly takes the rings; the others are seen by the core, which watches
  // the bell, and come to raise_queue().
  virtual void connect_queue(uint16_t queue, const EventFd& bell) = 0;
  // The device is being reset: back to no pending cause, no vectors and no bells, from the thread that
  // resets. No raise comes from before the reset any more.
  virtual void reset() = 0;
};

// The three parts of a split virtqueue, and the half of an address that a 32-bit register holds.
enum class QueuePart : uint8_t { descriptors, available, used };
enum class Half : uint8_t { low, high };

class TransportCore final : private Driver {
 public:
  // The device, the memory, the interrupts and the device's loop must outlive the core. Before the loop ends
  // for good a core must have been reset; it may be destroyed after that.
  static Result<std::unique_ptr<TransportCore>> create(Device& device, const GuestMemory& memory,
                                                       TransportInterrupts& interrupts);
  TransportCore(const TransportCore&) = delete;
  TransportCore& operator=(const TransportCore&) = delete;
  ~TransportCore() override;

  [[nodiscard]] Device& device() const { return device_; }

  // Device status (2.1). Writing 0 is reset(). The bits that the rules allow appear in status() when
  // set_status() returns; FEATURES_OK stays away when the features are not acceptable (3.1.1).
  [[nodiscard]] uint8_t status() const;
  void set_status(uint8_t value);

  // Back to power-on. Returns when the device touches the driver's memory no more: waits for requests in
  // flight. Any thread except the loop's, at any time; does nothing to the loop if the device was never
  // started.
  void reset();

  // Feature windows (2.2): 32 bits at a time. Selections other than 0 and 1 read as 0.
  [[nodiscard]] uint32_t device_feature_select() const;
  void set_device_feature_select(uint32_t window);
  [[nodiscard]] uint32_t device_features() const;
  [[nodiscard]] uint32_t driver_feature_select() const;
  void set_driver_feature_select(uint32_t window);
  [[nodiscard]] uint32_t driver_features() const;
  void set_driver_features(uint32_t bits);

  // The registers of the selected queue. Where there is no such queue all read as 0. Nothing changes while
  // the queue is enabled, or after DRIVER_OK.
  [[nodiscard]] uint16_t queue_count() const { return static_cast<uint16_t>(max_sizes_.size()); }
  [[nodiscard]] uint32_t queue_select() const;
  void set_queue_select(uint32_t queue);
  [[nodiscard]] uint16_t queue_max_size() const;
  [[nodiscard]] uint16_t queue_size() const;  // starts as queue_max_size()
  void set_queue_size(uint32_t size);         // a power of two, at most queue_max_size()
  [[nodiscard]] bool queue_enabled() const;
  void set_queue_enabled(bool enabled);
  [[nodiscard]] uint32_t queue_address(QueuePart part, Half half) const;
  void set_queue_address(QueuePart part, Half half, uint32_t value);

  // The eventfd that a transport binds to the doorbell of a queue (< queue_count()): it may stay bound for
  // ever, a ring outside DRIVER_OK has no effect. notify() is a doorbell write that came to user space, with
  // any value.
  [[nodiscard]] int doorbell(uint16_t queue) const { return doorbells_[queue].get(); }
  void notify(uint32_t queue) const;

  // Device configuration (2.5). An access that is not wholly inside it reads nothing, or is dropped.
  void read_config(uint64_t offset, std::span<std::byte> out) const;
  void write_config(uint64_t offset, std::span<const std::byte> in);
  // Changes whenever the device has changed its configuration; a transport shows as many low bits as it has.
  [[nodiscard]] uint32_t config_generation() const;

 private:
  struct QueueState {
    uint16_t size = 0;
    bool enabled = false;
    uint64_t addresses[3] = {};  // by QueuePart
  };
  // Everything a guest can see and a reset clears.
  struct State {
    uint8_t status = 0;
    uint32_t device_feature_select = 0;
    uint32_t driver_feature_select = 0;
    uint64_t driver_features = 0;
    uint32_t queue_select = 0;
    std::vector<QueueState> queues;
  };
  enum class Phase : uint8_t { idle, running, resetting };

  TransportCore(Device& device, const GuestMemory& memory, TransportInterrupts& interrupts,
                std::vector<EventFd> doorbells);
  [[nodiscard]] State power_on_state() const;
  [[nodiscard]] const QueueState* selected() const;  // with the mutex held
  [[nodiscard]] QueueState* changeable();            // the same; none from DRIVER_OK on
  [[nodiscard]] bool features_acceptable() const;
  [[nodiscard]] std::string_view activate();  // with the mutex held; what is wrong, if anything

  void complain(std::string_view what);

  // On the device's loop.
  void start_device(uint64_t features);
  void stop_device();
  // Calls `act(queue)` on the loop of each queue, and after all of them `then` on the device's. At once where
  // that is the caller's own.
  void on_each_queue(std::function<void(uint16_t)> act, std::function<void()> then);
  // On the queue's loop.
  void open_doorbell(uint16_t queue);
  void notify_used(uint16_t queue) override;
  void notify_config() override;
  void needs_reset(std::string_view why) override;
  void handle_again(uint16_t queue) override;
  const EventFd& hand_over(uint16_t queue, const EventFd& used) override;

  Device& device_;
  const GuestMemory& memory_;
  TransportInterrupts& interrupts_;
  const std::vector<uint16_t> max_sizes_;
  const uint64_t offered_;
  const std::vector<EventFd> doorbells_;

  mutable std::mutex mutex_;
  std::condition_variable quiet_;  // phase_ or device_stopped_ changed
  State state_;                    // guarded by mutex_
  Phase phase_ = Phase::idle;      // guarded by mutex_
  bool device_stopped_ = false;    // guarded by mutex_; the loop is done with the queues
  std::atomic<uint32_t> config_generation_{0};

  // By queue: its loop's while running; with the mutex held, whoever starts or resets.
  std::vector<Queue> queues_;
  std::vector<const EventFd*> handed_over_;  // rung for used buffers; none: the device works the queue itself
  std::vector<EventLoop::Watch> watches_;    // on the doorbells, or on these, by queue: its loop's
  std::atomic<bool> broken_{false};          // the device said needs_reset
  LogLimit complaints_{8};
};

}  // namespace vmm::virtio
