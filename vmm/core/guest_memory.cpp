// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/guest_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>

namespace vmm {
namespace {

using HugePages = MemoryBacking::HugePages;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = 2ULL << 20;
constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";

// A number in a file of the pool; 0 where the host has no such pool.
uint64_t pool_value(const char* name) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen((std::string{kPool} + name).c_str(), "re"),
                                                   &std::fclose};
  unsigned long long value = 0;
  if (!file || std::fscanf(file.get(), "%llu", &value) != 1) return 0;  // NOLINT(cert-err34-c)
  return value;
}

tl::unexpected<Error> refuse(int error, uint64_t size, const MemoryBacking& backing) {
  if (backing.huge_pages != HugePages::reserved) {
    return fail(error, "reserve {} MiB of guest memory (try a smaller --memory)", size >> 20);
  }
  const uint64_t free =
      pool_value("free_hugepages") - pool_value("resv_hugepages");  // the latter are free, too
  const uint64_t needed = size / kHugePage;
  return fail(error,
              "take {} huge pages of 2 MiB for guest memory, of which {} are free (reserve more: echo {} > "
              "{}nr_hugepages)",
              needed, free, pool_value("nr_hugepages") + needed - std::min(free, needed), kPool);
}

// `size` bytes at a multiple of 2 MiB, zeroed, not yet touched. Not reserved, unless they are of the pool:
// whoever gives a guest more than the host has means it.
Result<Mapping> map_range(uint64_t size, const MemoryBacking& backing) {
  const bool reserved = backing.huge_pages == HugePages::reserved;
  const int pool = reserved ? MAP_HUGETLB | MAP_HUGE_2MB : MAP_NORESERVE;
  Fd file;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | pool;
  if (backing.shared) {
    file = Fd{::memfd_create("guest-memory",
                             MFD_CLOEXEC | MFD_ALLOW_SEALING | (reserved ? MFD_HUGETLB | MFD_HUGE_2MB : 0U))};
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return refuse(errno, size, backing);
    // Whoever is given the file must not take it away from under us.
    ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    flags = MAP_SHARED | (reserved ? 0 : MAP_NORESERVE);
  }
  // A place that is large enough wherever it begins, of which the ends go back.
  const uint64_t room = size + kHugePage;
  void* place = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return refuse(errno, size, backing);
  auto* const begin = static_cast<std::byte*>(place);
  const uint64_t before = -reinterpret_cast<uintptr_t>(begin) & (kHugePage - 1);
  if (before != 0) ::munmap(begin, before);
  ::munmap(begin + before + size, room - before - size);
  Mapping mapping{begin + before, size};
  if (::mmap(mapping.data(), size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file.get(), 0) == MAP_FAILED) {
    return refuse(errno, size, backing);
  }
  return mapping;
}

// Advice that the host does not take costs speed and nothing else.
void advise(const Mapping& mapping, HugePages huge_pages) {
  if (huge_pages == HugePages::transparent) ::madvise(mapping.data(), mapping.size(), MADV_HUGEPAGE);
  if (huge_pages == HugePages::none) ::madvise(mapping.data(), mapping.size(), MADV_NOHUGEPAGE);
}

// Takes every page. In one thread: a second one gained nothing measurable on two CPUs.
Result<void> populate(const Mapping& mapping) {
  if (::madvise(mapping.data(), mapping.size(), MADV_POPULATE_WRITE) == 0) return {};
  if (errno == EINVAL) return fail("prefault guest memory: needs Linux 5.14 or newer");
  return fail(errno, "prefault {} MiB of guest memory (is so much free?)", mapping.size() >> 20);
}

}  // namespace

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

Result<GuestMemory> GuestMemory::create(std::span<const Range> ranges, const MemoryBacking& backing) {
  GuestMemory memory;
  memory.backing_ = backing;
  for (const auto& range : ranges) {
    assert(range.size != 0 && range.size % kPage == 0);
    VMM_TRY_ASSIGN(auto mapping, map_range(range.size, backing));
    // A core file of the VMM should not hold the guest's secrets, nor its gigabytes.
    ::madvise(mapping.data(), mapping.size(), MADV_DONTDUMP);
    advise(mapping, backing.huge_pages);
    if (backing.prefault) VMM_TRY(populate(mapping));
    memory.regions_.push_back({range.base, std::move(mapping)});
  }
  return memory;
}

bool GuestMemory::discard(const GuestSlice& slice) const {
  if (!can_discard()) return false;
  const auto begin = (reinterpret_cast<uintptr_t>(slice.data_) + kPage - 1) & ~(kPage - 1);
  const auto end = (reinterpret_cast<uintptr_t>(slice.data_) + slice.size_) & ~(kPage - 1);
  if (begin >= end) return true;
  // Of shared memory a mapping has nothing to give back: the hole goes into the file.
  return ::madvise(reinterpret_cast<void*>(begin), end - begin,
                   backing_.shared ? MADV_REMOVE : MADV_DONTNEED) == 0;
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

}  // namespace vmm
