// SPDX-License-Identifier: Apache-2.0
//
// An ELF file (System V ABI, "Object Files") as a loader sees it: what goes where, and where it starts.
// Addresses are physical (p_paddr). Missing: more than 64 program headers, section headers. Ignored:
// e_phnum's extension for large numbers, segments that are not loaded.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "firmware/input_file.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::firmware {

struct ElfImage {
  struct Segment {
    uint64_t file_offset = 0;
    uint64_t file_size = 0;  // at most memory_size
    Gpa base;
    uint64_t memory_size = 0;  // not 0; base + memory_size does not wrap
    uint64_t virtual_base = 0;
  };
  struct Note {
    uint64_t file_offset = 0;
    uint64_t size = 0;
  };
  bool is64 = false;
  uint16_t machine = 0;
  uint64_t entry = 0;
  uint64_t file_end = 0;  // the first byte after headers, tables and segments: what follows is not ELF's
  std::vector<Segment> segments;  // by file_offset; at least one
  std::vector<Note> notes;

  [[nodiscard]] Gpa lowest() const;
  [[nodiscard]] uint64_t end() const;  // the first byte after the highest segment
  [[nodiscard]] bool holds(uint64_t address) const;
  // Where it starts. Some files say a physical address (Linux), some a virtual one (kernels of the higher
  // half).
  [[nodiscard]] Result<uint64_t> physical_entry(std::string_view name) const;
};

// Enough of a file's beginning for the headers of every kernel.
inline constexpr size_t kElfHead = 64 << 10;

[[nodiscard]] bool is_elf(std::span<const std::byte> head);

// `head` is the beginning of an ELF image, kElfHead bytes or all of it. `name` is the file's, for errors.
// Segments may end beyond what `head` shows: whoever reads them finds out.
Result<ElfImage> parse_elf(std::span<const std::byte> head, std::string_view name);

// What a kernel says of itself in its notes.
struct ElfNotes {
  bool linux_kernel = false;          // a note of the owner "Linux"
  std::optional<uint64_t> pvh_entry;  // XEN_ELFNOTE_PHYS32_ENTRY
};
Result<ElfNotes> read_notes(const InputFile& file, const ElfImage& image);

}  // namespace vmm::firmware
