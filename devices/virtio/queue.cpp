// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/queue.h"

#include <bit>
#include <cassert>
#include <limits>
#include <utility>

#include "devices/virtio/ring_layout.h"

namespace vmm::virtio {
namespace {

// True if moving the index from `from` to `to` passed `event` (2.7.7.2), all of them modulo 2^16.
bool passed(uint16_t event, uint16_t from, uint16_t to) {
  return static_cast<uint16_t>(to - event - 1) < static_cast<uint16_t>(to - from);
}

// Orders our stores before our later loads, which acquire and release do not. (Not std::atomic_thread_fence:
// the thread sanitizer knows no fences, and GCC refuses them under it.)
void full_barrier() {
  __sync_synchronize();
}

}  // namespace

std::string_view to_string(QueueFault fault) {
  switch (fault) {
    case QueueFault::ring_outside_memory:
      return "a ring is misaligned or outside RAM";
    case QueueFault::too_many_available:
      return "available index ran ahead by more than the queue size";
    case QueueFault::head_out_of_range:
      return "available head >= queue size";
    case QueueFault::head_in_flight:
      return "available head is in flight already";
    case QueueFault::next_out_of_range:
      return "next descriptor is outside its table";
    case QueueFault::chain_too_long:
      return "descriptor chain is longer than the queue";
    case QueueFault::buffer_outside_memory:
      return "a buffer is outside RAM";
    case QueueFault::length_overflow:
      return "descriptor chain of 4 GiB or more";
    case QueueFault::writable_before_readable:
      return "a readable buffer follows a writable one";
    case QueueFault::bad_indirect:
      return "bad indirect descriptor";
  }
  return "unknown fault";
}

tl::expected<Queue, QueueFault> Queue::create(const GuestMemory& memory, const QueueConfig& config,
                                              uint64_t features) {
  assert(std::has_single_bit(config.size));
  const auto ring = [&](Gpa base, size_t bytes, uint64_t alignment) -> std::optional<GuestSlice> {
    if (base.raw % alignment != 0) return std::nullopt;
    return memory.slice(base, bytes);
  };
  const auto descriptors = ring(config.descriptors, descriptor_bytes(config.size), kDescriptorAlignment);
  const auto available = ring(config.available, available_bytes(config.size), kAvailableAlignment);
  const auto used = ring(config.used, used_bytes(config.size), kUsedAlignment);
  if (!descriptors || !available || !used) return tl::unexpected(QueueFault::ring_outside_memory);

  Queue queue;
  queue.memory_ = &memory;
  queue.size_ = config.size;
  queue.event_index_ = (features & kFeatureEventIndex) != 0;
  queue.indirect_ = (features & kFeatureIndirect) != 0;
  queue.descriptors_ = *descriptors;
  queue.available_ = *available;
  queue.used_ = *used;
  queue.in_flight_.assign(config.size, false);
  return queue;
}

uint16_t Queue::available_index() const {
  return available_.load_acquire16(kRingIndex);
}

tl::expected<std::optional<Chain>, QueueFault> Queue::pop() {
  if (fault_) return tl::unexpected(*fault_);
  const auto fault = [this](QueueFault what) {
    fault_ = what;
    return tl::unexpected(what);
  };

  const auto waiting = static_cast<uint16_t>(available_index() - next_available_);
  if (waiting == 0) return std::nullopt;
  if (waiting > size_) return fault(QueueFault::too_many_available);

  const auto head = available_.load<uint16_t>(available_entry(next_available_ % size_));
  if (head >= size_) return fault(QueueFault::head_out_of_range);
  if (in_flight_[head]) return fault(QueueFault::head_in_flight);

  auto chain = walk(head);
  if (!chain) return fault(chain.error());
  in_flight_[head] = true;
  ++next_available_;
  return std::move(*chain);
}

// The chain from `head`: descriptors of the ring, the last of which may lead into one indirect table
// (2.7.5.3.2).
tl::expected<Chain, QueueFault> Queue::walk(uint16_t head) {
  Chain chain;
  chain.head_ = head;
  if (!spare_.empty()) {
    chain.buffers_ = std::move(spare_.back());
    spare_.pop_back();
  }

  GuestSlice table = descriptors_;
  size_t entries = size_;
  size_t index = head;
  bool inside_indirect = false;
  for (size_t budget = size_; budget > 0;) {
    const auto descriptor = table.load<RingDescriptor>(index * sizeof(RingDescriptor));
    if (descriptor.has(RingDescriptor::kIndirect)) {
      const bool allowed = indirect_ && !inside_indirect && !descriptor.has(RingDescriptor::kNext) &&
                           descriptor.length != 0 && descriptor.length % sizeof(RingDescriptor) == 0;
      if (!allowed) return tl::unexpected(QueueFault::bad_indirect);
      const auto indirect = memory_->slice(Gpa{descriptor.address}, descriptor.length);
      if (!indirect) return tl::unexpected(QueueFault::buffer_outside_memory);
      table = *indirect;
      entries = descriptor.length / sizeof(RingDescriptor);
      index = 0;
      inside_indirect = true;
      continue;  // costs no budget: it is no buffer, and it happens once
    }

    const bool writable = descriptor.has(RingDescriptor::kWrite);
    if (const auto wrong = add_buffer(chain, descriptor.address, descriptor.length, writable)) {
      return tl::unexpected(*wrong);
    }
    if (!descriptor.has(RingDescriptor::kNext)) return chain;
    if (descriptor.next >= entries) return tl::unexpected(QueueFault::next_out_of_range);
    index = descriptor.next;
    --budget;
  }
  return tl::unexpected(QueueFault::chain_too_long);
}

std::optional<QueueFault> Queue::add_buffer(Chain& chain, uint64_t address, uint32_t length,
                                            bool writable) const {
  if (!writable && chain.buffers_.size() > chain.readable_count_) return QueueFault::writable_before_readable;
  // An empty buffer moves nothing, so wherever it points does no harm. The specification does not forbid it.
  if (length == 0) return std::nullopt;
  const auto buffer = memory_->slice(Gpa{address}, length);
  if (!buffer) return QueueFault::buffer_outside_memory;
  // Guest buffers may overlap, so RAM does not bound the sum. A used length has 32 bits (2.7.8).
  const uint64_t total = uint64_t{chain.readable_size_} + chain.writable_size_ + length;
  if (total > std::numeric_limits<uint32_t>::max()) return QueueFault::length_overflow;
  chain.buffers_.push_back(*buffer);
  if (writable) {
    chain.writable_size_ += length;
  } else {
    ++chain.readable_count_;
    chain.readable_size_ += length;
  }
  return std::nullopt;
}

void Queue::stage(Chain chain, uint32_t written) {
  assert(ready() && in_flight_[chain.head_] && written <= chain.writable_size_);
  const UsedElement element{.id = chain.head_, .length = written};
  used_.store(used_entry(next_used_ % size_), element);
  in_flight_[chain.head_] = false;
  ++next_used_;
  chain.buffers_.clear();
  spare_.push_back(std::move(chain.buffers_));
}

void Queue::publish() {
  used_.store_release16(kRingIndex, next_used_);
}

bool Queue::should_notify() {
  const auto from = std::exchange(notified_used_, next_used_);
  if (from == next_used_) return false;
  // The driver sets what it waits for and then looks at the used index; we moved that and now look at what it
  // waits for. Without the barrier both could miss the other.
  full_barrier();
  if (!event_index_) return (available_.load<uint16_t>(kRingFlags) & kAvailableNoInterrupt) == 0;
  const auto event = available_.load<uint16_t>(used_event_offset(size_));
  return passed(event, from, next_used_);
}

void Queue::disable_doorbell() {
  // With EVENT_IDX the driver rings when it passes avail_event, which stays where it is: behind.
  if (!event_index_) used_.store(kRingFlags, kUsedNoNotify);
}

bool Queue::enable_doorbell() {
  if (fault_) return false;
  if (event_index_) {
    used_.store(available_event_offset(size_), next_available_);
  } else {
    used_.store(kRingFlags, uint16_t{0});
  }
  full_barrier();  // as in should_notify(), the other way round
  return available_index() != next_available_;
}

}  // namespace vmm::virtio
