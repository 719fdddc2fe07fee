// SPDX-License-Identifier: Apache-2.0
//
// Split virtqueue, device side (virtio 1.2, 2.7). The one place where descriptors are read and judged: a
// device sees chains that are inside guest RAM, bounded, and in flight once. A driver that breaks the rules
// breaks its queue for good (until reset): pop() goes on returning the fault.
//
// Missing: packed ring (2.8), IN_ORDER.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/virtio/chain.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::virtio {

// What a driver can do wrong with a ring.
enum class QueueFault : uint8_t {
  ring_outside_memory,       // a part of the ring is not RAM, or is misaligned
  too_many_available,        // avail.idx ran ahead by more than the queue's size
  head_out_of_range,         // avail ring names a descriptor >= size
  head_in_flight,            // the same head again before it was used
  next_out_of_range,         // a chained descriptor >= size of its table
  chain_too_long,            // more descriptors than the queue has (a loop, or a lying indirect table)
  buffer_outside_memory,     // a buffer is not wholly RAM of one region
  length_overflow,           // a chain of more than 2^32 - 1 bytes
  writable_before_readable,  // a device-readable buffer after a device-writable one (2.7.4.2)
  bad_indirect,              // nested, with NEXT, length not a multiple of 16 or zero, or not negotiated
};
[[nodiscard]] std::string_view to_string(QueueFault fault);

// What a driver configured, frozen at activation.
struct QueueConfig {
  uint16_t size = 0;  // a power of two
  Gpa descriptors;
  Gpa available;
  Gpa used;
};

class Queue {
 public:
  // A queue that the driver left disabled.
  Queue() = default;
  // `features` are the negotiated ones (EVENT_IDX, INDIRECT_DESC count).
  static tl::expected<Queue, QueueFault> create(const GuestMemory& memory, const QueueConfig& config,
                                                uint64_t features);

  [[nodiscard]] bool ready() const { return size_ != 0; }
  [[nodiscard]] uint16_t size() const { return size_; }
  // The parts of the ring, for a device that has somebody else work it.
  [[nodiscard]] const GuestSlice& descriptors() const { return descriptors_; }
  [[nodiscard]] const GuestSlice& available() const { return available_; }
  [[nodiscard]] const GuestSlice& used() const { return used_; }

  // The next chain; none when the driver has added nothing; or a broken driver, from then on.
  tl::expected<std::optional<Chain>, QueueFault> pop();

  // Gives a chain back with `written` bytes in its writable part. Visible to the driver at once; no
  // notification.
  void complete(Chain chain, uint32_t written) {
    stage(std::move(chain), written);
    publish();
  }
  // The same for chains that belong together: the driver sees those staged when they are published, all at
  // once. Nothing may stay staged when a turn ends.
  void stage(Chain chain, uint32_t written);
  void publish();

  // True if the driver wants to be told of what was completed since the last call (2.7.7.2).
  [[nodiscard]] bool should_notify();

  // Doorbells: while a queue is being worked the driver need not ring. enable_doorbell() returns true if
  // something arrived in between: look again before sleeping (2.7.10).
  void disable_doorbell();
  [[nodiscard]] bool enable_doorbell();

 private:
  [[nodiscard]] tl::expected<Chain, QueueFault> walk(uint16_t head);
  [[nodiscard]] std::optional<QueueFault> add_buffer(Chain& chain, uint64_t address, uint32_t length,
                                                     bool writable) const;
  [[nodiscard]] uint16_t available_index() const;

  const GuestMemory* memory_ = nullptr;
  uint16_t size_ = 0;
  bool event_index_ = false;
  bool indirect_ = false;
  GuestSlice descriptors_;
  GuestSlice available_;
  GuestSlice used_;

  // Our own copies: the guest may scribble over the ring, never over these.
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  uint16_t notified_used_ = 0;   // next_used_ when should_notify() was last asked
  std::vector<bool> in_flight_;  // by head
  std::optional<QueueFault> fault_;
  std::vector<std::vector<GuestSlice>> spare_;  // buffer lists of completed chains, to be filled again
};

}  // namespace vmm::virtio
