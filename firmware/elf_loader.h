// SPDX-License-Identifier: Apache-2.0
//
// The segments of an ELF image to their places in guest memory: from a file, or as a decompressor yields
// them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "firmware/byte_stream.h"
#include "firmware/elf_image.h"
#include "firmware/loader.h"
#include "firmware/memory_map.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

// Whether all segments are RAM, at or above kLoaderEnd, and apart from each other.
Result<void> check_placement(const ElfImage& image, std::span<const MemoryRange> map, std::string_view name);

// Reads the segments into guest memory; returns the bytes loaded. Precondition: check_placement.
Result<uint64_t> load_segments(const InputFile& file, const ElfImage& image, const GuestMemory& memory);

// All of it for a kernel that is an ELF file; appends the phase to `loaded`.
Result<ElfImage> load_elf_kernel(const InputFile& file, const GuestMemory& memory,
                                 std::span<const MemoryRange> map, LoadedKernel& loaded);

// The same for an ELF image that arrives in order: a decompressor's output goes straight to its place.
class ElfSink final : public ByteSink {
 public:
  // Where the lowest segment goes; all others keep their distance to it. It is asked once, when the headers
  // are there, and told how many bytes follow the ELF image.
  using Place = std::function<Result<Gpa>(const ElfImage&, uint64_t tail)>;

  // `limit`: the most bytes that may come. All references must outlive the sink.
  ElfSink(const GuestMemory& memory, std::span<const MemoryRange> map, std::string_view name, uint64_t limit,
          Place place);

  std::span<std::byte> room() override;
  Result<void> filled(size_t count) override;

  // After the last byte: whether every segment is complete.
  Result<void> finish();

  // Valid after finish(). Addresses are those of the place, but for `entry`.
  [[nodiscard]] const ElfImage& image() const { return image_; }
  [[nodiscard]] uint64_t bytes() const { return position_; }
  // What came after the ELF image, if it is words, and no more than kMostRelocationBytes.
  [[nodiscard]] std::vector<uint32_t> take_tail() { return std::move(tail_); }

 private:
  Result<void> place_head();

  const GuestMemory& memory_;
  std::span<const MemoryRange> map_;
  std::string_view name_;
  uint64_t limit_;
  Place place_;
  std::vector<std::byte> buffer_;  // the head; then, what belongs nowhere
  ElfImage image_;
  bool placed_ = false;
  std::vector<uint32_t> tail_;
  size_t segment_ = 0;  // the first that is not complete
  uint64_t position_ = 0;
};

}  // namespace vmm::firmware
