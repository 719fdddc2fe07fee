// SPDX-License-Identifier: Apache-2.0
#include "firmware/elf_loader.h"

#include <algorithm>
#include <cassert>
#include <chrono>

#include "firmware/boot_layout.h"
#include "firmware/kernel_image.h"
#include "firmware/relocations.h"

namespace vmm::firmware {

Result<void> check_placement(const ElfImage& image, std::span<const MemoryRange> map, std::string_view name) {
  auto by_address = image.segments;
  std::sort(by_address.begin(), by_address.end(),
            [](const auto& a, const auto& b) { return a.base < b.base; });
  uint64_t previous_end = 0;
  for (const auto& segment : by_address) {
    const uint64_t end = segment.base.raw + segment.memory_size;
    if (segment.base.raw < previous_end) {
      return fail("{}: its segment at {:#x} overlaps the one before it", name, segment.base.raw);
    }
    previous_end = end;
    if (segment.base.raw < kLoaderEnd) {
      return fail(
          "{}: wants to be loaded at {:#x}; addresses below {:#x} hold the loader's tables: link it higher",
          name, segment.base.raw, kLoaderEnd);
    }
    VMM_TRY(check_ram(map, segment.base, segment.memory_size, name));
  }
  return {};
}

Result<uint64_t> load_segments(const InputFile& file, const ElfImage& image, const GuestMemory& memory) {
  uint64_t sum = 0;
  for (const auto& segment : image.segments) {
    if (segment.file_size == 0) continue;
    const auto to = memory.slice(segment.base, segment.file_size);
    if (!to) return fail("{}: its segment at {:#x} is not in guest memory", file.path(), segment.base.raw);
    VMM_TRY(file.read(segment.file_offset, *to));
    sum += segment.file_size;
  }
  return sum;
}

Result<ElfImage> load_elf_kernel(const InputFile& file, const GuestMemory& memory,
                                 std::span<const MemoryRange> map, LoadedKernel& loaded) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::byte> head(static_cast<size_t>(std::min<uint64_t>(file.size(), kElfHead)));
  VMM_TRY(file.read(0, std::span{head}));
  VMM_TRY_ASSIGN(ElfImage image, parse_elf(head, file.path()));
  VMM_TRY(check_placement(image, map, file.path()));
  VMM_TRY_ASSIGN(const uint64_t bytes, load_segments(file, image, memory));
  loaded.phases.push_back({"kernel", std::chrono::steady_clock::now() - start, bytes, bytes});
  return image;
}

ElfSink::ElfSink(const GuestMemory& memory, std::span<const MemoryRange> map, std::string_view name,
                 uint64_t limit, Place place)
    : memory_(memory), map_(map), name_(name), limit_(limit), place_(std::move(place)), buffer_(kElfHead) {}

std::span<std::byte> ElfSink::room() {
  if (!placed_) return std::span{buffer_}.subspan(static_cast<size_t>(position_));
  if (segment_ == image_.segments.size()) {
    if (position_ < image_.file_end) {
      const uint64_t gap = image_.file_end - position_;
      return std::span{buffer_}.first(static_cast<size_t>(std::min<uint64_t>(gap, buffer_.size())));
    }
    const uint64_t done = position_ - image_.file_end;
    const auto tail = std::as_writable_bytes(std::span{tail_});
    return done < tail.size() ? tail.subspan(static_cast<size_t>(done)) : std::span{buffer_};
  }
  const auto& segment = image_.segments[segment_];
  if (position_ < segment.file_offset) {
    const uint64_t gap = segment.file_offset - position_;
    return std::span{buffer_}.first(static_cast<size_t>(std::min<uint64_t>(gap, buffer_.size())));
  }
  const uint64_t done = position_ - segment.file_offset;
  // Checked by place_head: the whole segment is in guest memory.
  const auto whole = memory_.slice(segment.base, segment.file_size);
  assert(whole.has_value());
  const iovec into = whole->iov();
  return std::span{static_cast<std::byte*>(into.iov_base), into.iov_len}.subspan(static_cast<size_t>(done));
}

Result<void> ElfSink::filled(size_t count) {
  position_ += count;
  if (position_ > limit_)
    return fail("{}: its payload unpacks to more than the {} bytes it states", name_, limit_);
  if (!placed_ && position_ == buffer_.size()) VMM_TRY(place_head());
  while (placed_ && segment_ < image_.segments.size()) {
    const auto& segment = image_.segments[segment_];
    if (segment.file_size != 0 && position_ < segment.file_offset + segment.file_size) break;
    ++segment_;
  }
  return {};
}

Result<void> ElfSink::place_head() {
  const auto head = std::span<const std::byte>{buffer_}.first(static_cast<size_t>(position_));
  VMM_TRY_ASSIGN(image_, parse_elf(head, name_));
  const uint64_t tail = limit_ > image_.file_end ? limit_ - image_.file_end : 0;
  VMM_TRY_ASSIGN(const Gpa place, place_(image_, tail));
  const uint64_t distance = place.raw - image_.lowest().raw;  // wraps where it goes down
  for (auto& segment : image_.segments) segment.base.raw += distance;
  VMM_TRY(check_placement(image_, map_, name_));
  if (tail % sizeof(uint32_t) == 0 && tail <= kMostRelocationBytes) tail_.resize(tail / sizeof(uint32_t));
  if (image_.file_end < head.size()) {
    const auto to = std::as_writable_bytes(std::span{tail_});
    const auto part = head.subspan(static_cast<size_t>(image_.file_end));
    std::ranges::copy(part.first(std::min(part.size(), to.size())), to.begin());
  }
  uint64_t previous_end = 0;
  for (const auto& segment : image_.segments) {
    if (segment.file_size == 0) continue;
    if (segment.file_offset < previous_end) return fail("{}: its segments overlap in the file", name_);
    previous_end = segment.file_offset + segment.file_size;
    const auto to = memory_.slice(segment.base, segment.memory_size);
    if (!to) return fail("{}: its segment at {:#x} is not in guest memory", name_, segment.base.raw);
    if (segment.file_offset < head.size()) {
      const auto part = head.subspan(static_cast<size_t>(segment.file_offset));
      to->copy_out(part.first(static_cast<size_t>(std::min<uint64_t>(part.size(), segment.file_size))));
    }
  }
  placed_ = true;
  return {};
}

Result<void> ElfSink::finish() {
  if (!placed_) {
    VMM_TRY(place_head());
    VMM_TRY(filled(0));
  }
  if (segment_ < image_.segments.size()) {
    return fail("{}: its payload unpacks to {} bytes and ends within a segment", name_, position_);
  }
  if (position_ != limit_) tail_.clear();  // not all of it came
  return {};
}

}  // namespace vmm::firmware
