// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of a split virtqueue, for tests: real rings in guest memory, and every way to break them.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/queue.h"
#include "devices/virtio/ring_layout.h"
#include "vmm/core/guest_memory.h"

namespace vmm::virtio {

// Guest memory of one region from 0, for tests that need no holes.
GuestMemory make_test_memory(uint64_t size = 1 << 20);

class FakeRing {
 public:
  struct Buffer {
    Gpa address;
    uint32_t length = 0;
    bool writable = false;
  };

  // The rings lie at `base`, which must be 16-byte aligned; buffers are allocated behind them.
  FakeRing(const GuestMemory& memory, Gpa base, uint16_t size);

  [[nodiscard]] QueueConfig config() const { return config_; }
  [[nodiscard]] uint16_t size() const { return config_.size; }

  // Room in guest memory, never given back.
  Gpa allocate(uint64_t bytes, uint64_t alignment = 16);
  Buffer readable(std::string_view bytes);
  Buffer writable(uint32_t length);
  [[nodiscard]] std::string bytes_at(Gpa address, size_t length) const;

  // Builds a chain on the next free descriptors (round robin: a test that leaves chains in flight must not
  // build more of them than fit) and offers it. Returns its head.
  uint16_t add(std::span<const Buffer> buffers);
  uint16_t add(std::initializer_list<Buffer> buffers) {
    return add(std::span{buffers.begin(), buffers.size()});
  }
  // The same with the last `count` buffers in an indirect table.
  uint16_t add_indirect(std::span<const Buffer> buffers, size_t count);

  // The parts of add(), to be misused.
  void set_descriptor(uint16_t index, const RingDescriptor& descriptor);
  void offer(uint16_t head);                 // in the available ring, and moves the index
  void set_available_index(uint16_t index);  // anywhere
  void set_available_flags(uint16_t flags);
  void set_used_event(uint16_t index);

  // The next chain that the device gave back.
  std::optional<UsedElement> take_used();
  [[nodiscard]] uint16_t used_index() const;
  [[nodiscard]] uint16_t used_flags() const;
  [[nodiscard]] uint16_t available_event() const;
  [[nodiscard]] uint16_t available_index() const { return available_; }

 private:
  const GuestMemory* memory_;
  QueueConfig config_;
  uint64_t next_free_address_;
  uint16_t next_descriptor_ = 0;
  uint16_t available_ = 0;
  uint16_t used_ = 0;
};

}  // namespace vmm::virtio
