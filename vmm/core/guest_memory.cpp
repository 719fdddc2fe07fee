// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/guest_memory.h"

#include <sys/mman.h>

#include <cassert>
#include <cerrno>

namespace vmm {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void GuestSlice::copy_in(std::span<std::byte> to, size_t offset) const {
  assert(offset <= size_ && to.size() <= size_ - offset);
  if (!to.empty()) std::memcpy(to.data(), data_ + offset, to.size());
}

void GuestSlice::copy_out(std::span<const std::byte> from, size_t offset) const {
  assert(offset <= size_ && from.size() <= size_ - offset);
  if (!from.empty()) std::memcpy(data_ + offset, from.data(), from.size());
}

GuestSlice GuestSlice::sub(size_t offset, size_t length) const {
  assert(offset <= size_ && length <= size_ - offset);
  return {data_ + offset, length};
}

uint16_t GuestSlice::load_acquire16(size_t offset) const {
  assert(offset + 2 <= size_ && (reinterpret_cast<uintptr_t>(data_ + offset) & 1) == 0);
  return __atomic_load_n(reinterpret_cast<const uint16_t*>(data_ + offset), __ATOMIC_ACQUIRE);
}

void GuestSlice::store_release16(size_t offset, uint16_t value) const {
  assert(offset + 2 <= size_ && (reinterpret_cast<uintptr_t>(data_ + offset) & 1) == 0);
  __atomic_store_n(reinterpret_cast<uint16_t*>(data_ + offset), value, __ATOMIC_RELEASE);
}

Result<GuestMemory> GuestMemory::create(std::span<const Range> ranges) {
  GuestMemory memory;
  for (const auto& range : ranges) {
    assert(range.size != 0 && range.size % 4096 == 0);
    void* at = ::mmap(nullptr, range.size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
      return fail(errno, "reserve {} MiB of guest memory (try a smaller --memory)", range.size >> 20);
    }
    memory.regions_.push_back({range.base, Mapping{static_cast<std::byte*>(at), range.size}});
    // A core file of the VMM should not hold the guest's secrets, nor its gigabytes.
    ::madvise(at, range.size, MADV_DONTDUMP);
  }
  return memory;
}

std::optional<GuestSlice> GuestMemory::slice(Gpa gpa, uint64_t length) const {
  for (const auto& region : regions_) {
    if (gpa < region.base) break;
    const uint64_t offset = gpa.raw - region.base.raw;
    const uint64_t size = region.mapping.size();
    if (offset < size && length <= size - offset) {
      return GuestSlice{region.mapping.data() + offset, static_cast<size_t>(length)};
    }
  }
  return std::nullopt;
}

bool GuestMemory::read(Gpa gpa, std::span<std::byte> to) const {
  const auto at = slice(gpa, to.size());
  if (at) at->copy_in(to);
  return at.has_value();
}

bool GuestMemory::write(Gpa gpa, std::span<const std::byte> from) const {
  const auto at = slice(gpa, from.size());
  if (at) at->copy_out(from);
  return at.has_value();
}

uint64_t GuestMemory::size() const {
  uint64_t sum = 0;
  for (const auto& region : regions_) sum += region.mapping.size();
  return sum;
}

uint64_t GuestMemory::resident_bytes() const {
  uint64_t pages = 0;
  std::vector<unsigned char> in_core(size_t{256} * 1024);
  for (const auto& region : regions_) {
    for (size_t offset = 0; offset < region.mapping.size(); offset += in_core.size() * 4096) {
      const size_t length = std::min(in_core.size() * 4096, region.mapping.size() - offset);
      if (::mincore(region.mapping.data() + offset, length, in_core.data()) != 0) continue;
      for (size_t page = 0; page < length / 4096; ++page) pages += in_core[page] & 1U;
    }
  }
  return pages * 4096;
}

}  // namespace vmm
