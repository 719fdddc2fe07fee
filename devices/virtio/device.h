// SPDX-License-Identifier: Apache-2.0
//
// What a virtio device is to a transport, and a transport to a device (virtio 1.2, chapter 2). The transport
// core owns the status machine, the queues' configuration and the reset; a device sees only queues that are
// ready.
//
// Threads: one I/O loop owns a device: start and stop run on it. A queue belongs to one loop, the device's
// own unless it has more of them: handle_queue runs there, and so does everything the device does with that
// queue. The configuration space is read and written by vCPU threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "vmm/core/event_loop.h"
#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"

namespace vmm::virtio {

class Queue;

// How a running device speaks to its driver. Leaf calls: those that name a queue from the thread of its loop,
// the others from any loop of the device.
class Driver {
 public:
  virtual ~Driver() = default;
  virtual void notify_used(uint16_t queue) = 0;  // used buffer notification (2.7.7), subject to suppression
  virtual void notify_config() = 0;              // configuration change notification (2.4)
  // The driver broke the rules: sets DEVICE_NEEDS_RESET (2.1.1), logs once, rings no doorbell any more. The
  // device must stop touching its queues; it is stopped and started again when the driver resets it.
  virtual void needs_reset(std::string_view why) = 0;
  // Calls Device::handle_queue(queue) in a later turn of the loop: for a device that has worked off its share
  // of a turn, so that a busy driver does not keep the loop from its other work.
  virtual void handle_again(uint16_t queue) = 0;
  // From within start(), for a device that has somebody else work a queue, such as the host's kernel. Until
  // stop() handle_queue is not called for it: the doorbell, which is returned, is theirs to hear. They ring
  // `used` for each notification that the driver is to have; it must stay until stop() has reported.
  virtual const EventFd& hand_over(uint16_t queue, const EventFd& used) = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  [[nodiscard]] virtual uint16_t type() const = 0;          // virtio 1.2, chapter 5: 1 network, 2 block, …
  [[nodiscard]] virtual std::string_view name() const = 0;  // for the log and the statistics: "blk0"
  // Device-type feature bits offered. The transport core adds VERSION_1, RING_EVENT_IDX and
  // RING_INDIRECT_DESC.
  [[nodiscard]] virtual uint64_t features() const = 0;
  [[nodiscard]] virtual std::span<const uint16_t> queue_sizes() const = 0;  // largest size of each queue

  // Device configuration space (2.5). `offset + size` lies inside config_size(); the transport has checked
  // it.
  [[nodiscard]] virtual size_t config_size() const = 0;
  virtual void read_config(size_t offset, std::span<std::byte> out) = 0;
  virtual void write_config(size_t offset, std::span<const std::byte> in) = 0;

  [[nodiscard]] virtual EventLoop& loop() = 0;
  [[nodiscard]] virtual EventLoop& queue_loop(uint16_t /*queue*/) { return loop(); }

  // DRIVER_OK: `queues` has one entry per queue_sizes(), those the driver left disabled are not ready(). All
  // stay valid until stop() has reported. `features` is what was negotiated, transport bits included.
  virtual void start(uint64_t features, std::span<Queue> queues, Driver& driver) = 0;
  // The driver rang the doorbell of a ready queue.
  virtual void handle_queue(uint16_t index) = 0;
  // Reset. Calls `done` on the device's loop, now or later, once no request of this driver is in flight and
  // none of its memory will be touched again.
  virtual void stop(std::function<void()> done) = 0;
};

}  // namespace vmm::virtio
