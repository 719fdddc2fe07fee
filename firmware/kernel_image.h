// SPDX-License-Identifier: Apache-2.0
//
// A bzImage's vmlinux, unpacked: what must be known of it to put it somewhere, wherever its bytes are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "firmware/elf_image.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::firmware {

inline constexpr uint64_t kPageSize = 4096;

// Pages of a kernel that follow each other, and hold something other than zero.
struct PageRun {
  uint64_t offset = 0;  // from the kernel's first byte; a multiple of 4 KiB
  uint64_t size = 0;    // bytes, a multiple of 4 KiB, not 0
  friend bool operator==(const PageRun&, const PageRun&) = default;
};

struct KernelImage {
  Gpa linked;                         // where the build wants its first byte
  uint64_t virtual_base = 0;          // the same byte's address once the kernel has its own page tables
  uint64_t size = 0;                  // bytes, with bss
  uint64_t entry = 0;                 // from the first byte
  std::vector<PageRun> pages;         // sorted and apart; all else is zero
  std::vector<uint32_t> relocations;  // the table as the build appends it (relocations.h); empty: none
};

// The pages of `image`, which lies in `memory` at its segments' addresses, that hold something.
// Precondition: the segments are in `memory`, and the lowest one begins a page.
std::vector<PageRun> filled_pages(const ElfImage& image, const GuestMemory& memory);

}  // namespace vmm::firmware
