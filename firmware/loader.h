// SPDX-License-Identifier: Apache-2.0
//
// Puts a kernel, its command line, its initrd and its view of the machine into guest memory, and says how the
// first vCPU starts. One function for every kind of kernel:
//
//   VMM_TRY_ASSIGN(auto kernel, KernelFile::open(path));
//   VMM_TRY_ASSIGN(auto loaded, load_kernel(kernel, memory, options));
//   … loaded.boot to registers, loaded.phases to the receipt
//
// Guest memory below 1 MiB that a protocol needs is drawn in boot_layout.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "firmware/kaslr.h"
#include "firmware/kernel_cache.h"
#include "firmware/kernel_file.h"
#include "firmware/memory_map.h"
#include "firmware/symbols.h"
#include "vmm/core/boot_state.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

struct LoadOptions {
  std::string command_line = {};
  std::string initrd = {};  // path of the initrd, or of the one Multiboot module; empty: none
  std::vector<MemoryRange> memory_map = {};  // from make_memory_map
  std::optional<Gpa> rsdp = {};              // ACPI's root pointer, where the protocol can say it
  std::optional<Gpa> flat_address = {};      // run any file as a flat binary there, in real mode
  std::vector<std::byte> random_seed =
      {};                                 // for the guest's generator before it has any entropy; empty: none
  std::optional<KaslrRandom> kaslr = {};  // moves a Linux kernel that can be moved; none: none is moved
  KernelCache* cache = nullptr;           // of unpacked kernels; may be none
};

// One step of loading, for the receipt.
struct LoadPhase {
  std::string_view name;  // "kernel", "initrd"
  std::chrono::nanoseconds duration{};
  uint64_t bytes_read = 0;    // from the file
  uint64_t bytes_loaded = 0;  // into guest memory
};

struct LoadedKernel {
  BootState boot;
  KernelSlide slide;
  std::string description;  // "bzImage, xz payload, 64-bit entry"
  std::vector<LoadPhase> phases;
};

// `memory` must read as zero: what an image leaves out (bss) is not written, so that its pages stay untaken.
// Errors name the file, what it was taken for, the fault, and what to do.
Result<LoadedKernel> load_kernel(const KernelFile& kernel, const GuestMemory& memory,
                                 const LoadOptions& options);

}  // namespace vmm::firmware
