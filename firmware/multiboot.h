// SPDX-License-Identifier: Apache-2.0
//
// Multiboot 1 (Multiboot Specification 0.6.96), the protocol of most teaching kernels: 32-bit protected mode,
// EAX = 0x2BADB002, EBX = the information structure. The image is an ELF file (32-bit, or 64-bit with an
// entry below 4 GiB, as GRUB takes them), or any file whose header has the address fields.
//
// Missing: the symbol table, drives, APM, configuration table. Ignored: a wish for a video mode (flag 2),
// because the machine has none. Modules are page-aligned whether asked or not (flag 0).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "firmware/input_file.h"
#include "firmware/loader.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

struct MultibootHeader {
  uint64_t file_offset = 0;
  uint32_t flags = 0;
  // Present with flag 16 (3.1.3 "The address fields of Multiboot header").
  uint32_t header_address = 0;
  uint32_t load_address = 0;
  uint32_t load_end = 0;
  uint32_t bss_end = 0;
  uint32_t entry = 0;
};

// The header in the first 8 KiB of the file, if there is one.
[[nodiscard]] std::optional<MultibootHeader> find_multiboot(std::span<const std::byte> head);

// Loads the file and sets `loaded`.
Result<void> load_multiboot(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                            LoadedKernel& loaded);

}  // namespace vmm::firmware
