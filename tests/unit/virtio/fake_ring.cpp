// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/virtio/fake_ring.h"

#include <array>
#include <cstdlib>

namespace vmm::virtio {
namespace {

// A test that leaves its memory is wrong, and must not go on.
void must(bool ok) {
  if (!ok) std::abort();
}

constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace

GuestMemory make_test_memory(uint64_t size) {
  const std::array ranges{GuestMemory::Range{Gpa{0}, size}};
  auto memory = GuestMemory::create(ranges);
  must(memory.has_value());
  return std::move(*memory);
}

FakeRing::FakeRing(const GuestMemory& memory, Gpa base, uint16_t size) : memory_(&memory) {
  must(base.raw % 16 == 0);
  config_.size = size;
  config_.descriptors = base;
  config_.available = Gpa{base.raw + 16ULL * size};
  config_.used = Gpa{align_up(config_.available.raw + available_bytes(size), 4)};
  next_free_address_ = align_up(config_.used.raw + used_bytes(size), 4096);
}

Gpa FakeRing::allocate(uint64_t bytes, uint64_t alignment) {
  const uint64_t at = align_up(next_free_address_, alignment);
  next_free_address_ = at + bytes;
  must(memory_->slice(Gpa{at}, bytes).has_value());
  return Gpa{at};
}

FakeRing::Buffer FakeRing::readable(std::string_view bytes) {
  const Gpa at = allocate(bytes.size());
  must(memory_->write(at, std::as_bytes(std::span{bytes})));
  return {at, static_cast<uint32_t>(bytes.size()), false};
}

FakeRing::Buffer FakeRing::writable(uint32_t length) {
  return {allocate(length), length, true};
}

std::string FakeRing::bytes_at(Gpa address, size_t length) const {
  std::string bytes(length, '\0');
  must(memory_->read(address, std::as_writable_bytes(std::span{bytes})));
  return bytes;
}

uint16_t FakeRing::add(std::span<const Buffer> buffers) {
  return add_indirect(buffers, 0);
}

uint16_t FakeRing::add_indirect(std::span<const Buffer> buffers, size_t count) {
  const auto make = [](const Buffer& buffer, bool more, size_t next) {
    const unsigned flags =
        (buffer.writable ? RingDescriptor::kWrite : 0U) | (more ? RingDescriptor::kNext : 0U);
    return RingDescriptor{buffer.address.raw, buffer.length, static_cast<uint16_t>(flags),
                          static_cast<uint16_t>(next)};
  };
  const size_t direct = buffers.size() - count;
  const uint16_t head = next_descriptor_;
  for (size_t i = 0; i < direct; ++i) {
    const auto at = next_descriptor_;
    next_descriptor_ = static_cast<uint16_t>((at + 1) % size());
    set_descriptor(at, make(buffers[i], i + 1 < direct || count != 0, next_descriptor_));
  }
  if (count != 0) {
    const Gpa table = allocate(count * sizeof(RingDescriptor));
    for (size_t i = 0; i < count; ++i) {
      must(memory_->store(Gpa{table.raw + i * sizeof(RingDescriptor)},
                          make(buffers[direct + i], i + 1 < count, i + 1)));
    }
    set_descriptor(next_descriptor_, {table.raw, static_cast<uint32_t>(count * sizeof(RingDescriptor)),
                                      RingDescriptor::kIndirect, 0});
    next_descriptor_ = static_cast<uint16_t>((next_descriptor_ + 1) % size());
  }
  offer(head);
  return head;
}

void FakeRing::set_descriptor(uint16_t index, const RingDescriptor& descriptor) {
  must(memory_->store(Gpa{config_.descriptors.raw + index * sizeof(RingDescriptor)}, descriptor));
}

void FakeRing::offer(uint16_t head) {
  must(memory_->store(Gpa{config_.available.raw + available_entry(available_ % size())}, head));
  set_available_index(static_cast<uint16_t>(available_ + 1));
}

void FakeRing::set_available_index(uint16_t index) {
  available_ = index;
  memory_->slice(config_.available, 4).value().store_release16(2, index);
}

void FakeRing::set_available_flags(uint16_t flags) {
  must(memory_->store(config_.available, flags));
}

void FakeRing::set_used_event(uint16_t index) {
  must(memory_->store(Gpa{config_.available.raw + used_event_offset(size())}, index));
}

std::optional<UsedElement> FakeRing::take_used() {
  if (used_index() == used_) return std::nullopt;
  const auto at = Gpa{config_.used.raw + used_entry(used_ % size())};
  ++used_;
  return memory_->load<UsedElement>(at);
}

uint16_t FakeRing::used_index() const {
  return memory_->slice(config_.used, 4).value().load_acquire16(2);
}
uint16_t FakeRing::used_flags() const {
  return memory_->load<uint16_t>(config_.used).value();
}
uint16_t FakeRing::available_event() const {
  return memory_->load<uint16_t>(Gpa{config_.used.raw + available_event_offset(size())}).value();
}

}  // namespace vmm::virtio
