// SPDX-License-Identifier: Apache-2.0
//
// The split virtqueue as it lies in guest memory (virtio 1.2, 2.7.5 to 2.7.10). Written out here because
// <linux/virtio_ring.h> is not C++. All fields are little-endian, as is the only host.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace vmm::virtio {

static_assert(std::endian::native == std::endian::little);

struct RingDescriptor {
  static constexpr uint16_t kNext = 1;
  static constexpr uint16_t kWrite = 2;
  static constexpr uint16_t kIndirect = 4;

  uint64_t address = 0;
  uint32_t length = 0;  // bytes
  uint16_t flags = 0;
  uint16_t next = 0;  // with kNext

  [[nodiscard]] bool has(uint16_t flag) const { return (flags & flag) != 0; }
};
static_assert(sizeof(RingDescriptor) == 16);

struct UsedElement {
  uint32_t id = 0;      // head of the chain
  uint32_t length = 0;  // bytes written
};
static_assert(sizeof(UsedElement) == 8);

// The available and the used ring: flags, index, entries, and the event index of the other side.
constexpr size_t kRingFlags = 0;
constexpr size_t kRingIndex = 2;
constexpr size_t available_entry(size_t slot) {
  return 4 + slot * sizeof(uint16_t);
}
constexpr size_t used_entry(size_t slot) {
  return 4 + slot * sizeof(UsedElement);
}
constexpr size_t used_event_offset(size_t queue_size) {
  return available_entry(queue_size);
}
constexpr size_t available_event_offset(size_t queue_size) {
  return used_entry(queue_size);
}

constexpr uint16_t kAvailableNoInterrupt = 1;
constexpr uint16_t kUsedNoNotify = 1;

// Sizes and alignments (2.7). The event index has its place with and without EVENT_IDX.
constexpr size_t descriptor_bytes(size_t queue_size) {
  return queue_size * sizeof(RingDescriptor);
}
constexpr size_t available_bytes(size_t queue_size) {
  return used_event_offset(queue_size) + sizeof(uint16_t);
}
constexpr size_t used_bytes(size_t queue_size) {
  return available_event_offset(queue_size) + sizeof(uint16_t);
}
constexpr uint64_t kDescriptorAlignment = 16;
constexpr uint64_t kAvailableAlignment = 2;
constexpr uint64_t kUsedAlignment = 4;

// Feature bits (6), as masks.
constexpr uint64_t kFeatureIndirect = 1ULL << 28;
constexpr uint64_t kFeatureEventIndex = 1ULL << 29;
constexpr uint64_t kFeatureVersion1 = 1ULL << 32;

}  // namespace vmm::virtio
