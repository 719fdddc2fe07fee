// SPDX-License-Identifier: Apache-2.0
//
// The one door to the guest's RAM. `slice` is the only bounds check: a GuestSlice is the proof that it was
// made. A slice has no operator[], because the guest may write at any time: copy once, check the copy, use
// the copy.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "vmm/core/fd.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm {

// An anonymous or file mapping with one owner.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte* data, size_t size) : data_(data), size_(size) {}
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A checked stretch of guest RAM, contiguous on the host. Valid as long as its GuestMemory.
class GuestSlice {
 public:
  GuestSlice() = default;

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] iovec iov() const { return {data_, size_}; }

  // Copies out of / into guest RAM. `offset + bytes.size()` must not exceed size(): a bug of ours otherwise.
  void copy_in(std::span<std::byte> to, size_t offset = 0) const;
  void copy_out(std::span<const std::byte> from, size_t offset = 0) const;
  void zero() const { std::memset(data_, 0, size_); }

  // The `length` bytes from `offset`; the same precondition.
  [[nodiscard]] GuestSlice sub(size_t offset, size_t length) const;

  // Ring indices. The address must be 2-byte aligned (virtio 1.2, 2.7).
  [[nodiscard]] uint16_t load_acquire16(size_t offset) const;
  void store_release16(size_t offset, uint16_t value) const;

  // One object, with the same precondition. It is fetched once, whatever the guest does meanwhile: past the
  // fence the compiler can neither fetch it again nor take what it has stored for what is there.
  template <typename T>
  [[nodiscard]] T load(size_t offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    assert(offset <= size_ && sizeof(T) <= size_ - offset);
    T value;
    std::memcpy(&value, data_ + offset, sizeof value);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return value;
  }
  template <typename T>
  void store(size_t offset, const T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    assert(offset <= size_ && sizeof(T) <= size_ - offset);
    std::memcpy(data_ + offset, &value, sizeof value);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

 private:
  friend class GuestMemory;
  GuestSlice(std::byte* data, size_t size) : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// How guest RAM is taken from the host.
struct MemoryBacking {
  enum class HugePages : uint8_t {
    transparent,  // 2 MiB pages wherever the host has them to give
    none,         // 4 KiB pages, whatever the host would do by itself
    reserved,     // 2 MiB pages out of the host's pool (hugetlbfs), all of them or no machine
  };
  HugePages huge_pages = HugePages::transparent;
  bool shared = false;    // a memfd, so that another process can map it; else private to this one
  bool prefault = false;  // every page is taken at once instead of on first touch
  friend bool operator==(const MemoryBacking&, const MemoryBacking&) = default;
};

class GuestMemory {
 public:
  // A contiguous run of RAM in the guest; becomes one KVM memory slot.
  struct Region {
    Gpa base;
    Mapping mapping;
  };
  struct Range {
    Gpa base;
    uint64_t size = 0;  // bytes, a multiple of 4 KiB
  };

  // Zeroed RAM over `ranges`, which must be sorted and apart. On the host it lies as it does in the guest,
  // modulo 2 MiB, so that huge pages serve both.
  static Result<GuestMemory> create(std::span<const Range> ranges, const MemoryBacking& backing = {});

  // The bytes [gpa, gpa + length), if all of them are RAM of one region. Length 0 is allowed inside RAM.
  [[nodiscard]] std::optional<GuestSlice> slice(Gpa gpa, uint64_t length) const;

  [[nodiscard]] bool read(Gpa gpa, std::span<std::byte> to) const;
  [[nodiscard]] bool write(Gpa gpa, std::span<const std::byte> from) const;

  template <typename T>
  [[nodiscard]] std::optional<T> load(Gpa gpa) const {
    const auto at = slice(gpa, sizeof(T));
    if (!at) return std::nullopt;
    return at->load<T>(0);
  }
  template <typename T>
  [[nodiscard]] bool store(Gpa gpa, const T& value) const {
    const auto at = slice(gpa, sizeof(T));
    if (at) at->store(0, value);
    return at.has_value();
  }

  // Gives the 4 KiB pages that lie wholly inside `slice` back to the host, with all that is in them: what the
  // guest reads there next is not defined, but its own or zero. False if the host did not take them. Pages of
  // the host's reserved pool stay: they cannot be had again for certain.
  bool discard(const GuestSlice& slice) const;
  [[nodiscard]] bool can_discard() const { return backing_.huge_pages != MemoryBacking::HugePages::reserved; }
  // Whether pages of a file may take the place of its own (guest_pages.h): not where others are to see what
  // is written, nor where reserved pages or all pages at once are asked for.
  [[nodiscard]] bool can_map_files() const { return can_discard() && !backing_.shared && !backing_.prefault; }

  [[nodiscard]] const MemoryBacking& backing() const { return backing_; }
  [[nodiscard]] std::span<const Region> regions() const { return regions_; }
  [[nodiscard]] uint64_t size() const;  // bytes of RAM

 private:
  MemoryBacking backing_;
  std::vector<Region> regions_;
};

}  // namespace vmm
