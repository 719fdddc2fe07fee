// SPDX-License-Identifier: Apache-2.0
//
// The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst): the structure boot_params,
// and the entry in 64-bit or 32-bit mode. Whoever loads a Linux kernel fills a LinuxKernel; from there all
// are alike.
//
// Missing: EFI, VESA and text-mode screens, E820 maps of more than 128 ranges, initrds above 4 GiB.
#pragma once

#include <cstdint>

#include <asm/bootparam.h>

#include "firmware/loader.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

struct LinuxKernel {
  boot_params params{};  // all zero but `hdr`, which is the kernel's own where it has one
  BootState::Mode mode = BootState::Mode::long64;
  uint64_t entry = 0;
  uint64_t end = 0;    // the first byte after what the kernel needs to start
  bool kaslr = false;  // it was moved, and is to choose its other addresses at random, too
};

// A setup header for a kernel that comes without one, a bare vmlinux that takes [base, end).
[[nodiscard]] setup_header default_setup_header(Gpa base, uint64_t end);

// Adds command line, initrd and the machine's description; sets loaded.boot.
Result<void> start_linux(LinuxKernel& kernel, const std::string& name, const GuestMemory& memory,
                         const LoadOptions& options, LoadedKernel& loaded);

}  // namespace vmm::firmware
