// SPDX-License-Identifier: Apache-2.0
//
// What the loaders put into the first 128 KiB of guest memory. No kernel is loaded below kLoaderEnd, so
// nothing here is overwritten before the kernel has read it; the map still reports it as RAM, because all of
// it is free for the kernel once it has copied what it wants.
//
//   0x00500  GDT
//   0x01000  PVH start info or Multiboot information, with their tables
//   0x07000  top of a stack, for kernels that expect one (it grows down to what lies below)
//   0x07000  boot_params, the "zero page"
//   0x08000  page tables: PML4, PDPT, four page directories
//   0x0e000  setup_data: seed of the random number generator
//   0x10000  command line
#pragma once

#include <cstdint>

#include "vmm/core/types.h"

namespace vmm::firmware {

inline constexpr Gpa kGdt{0x500};
inline constexpr Gpa kInfo{0x1000};
inline constexpr uint64_t kInfoSize = 0x5000;
inline constexpr Gpa kStackTop{0x7000};
inline constexpr Gpa kZeroPage{0x7000};
inline constexpr Gpa kPageTables{0x8000};
inline constexpr Gpa kSetupData{0xe000};
inline constexpr uint64_t kSetupDataSize = 0x2000;
inline constexpr Gpa kCommandLine{0x10000};
inline constexpr uint64_t kCommandLineSize = 0x10000;  // with its terminating zero
inline constexpr uint64_t kLoaderEnd = 0x20000;

}  // namespace vmm::firmware
