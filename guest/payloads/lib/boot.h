// SPDX-License-Identifier: Apache-2.0
// How a payload is entered. Each payload links one of entry_multiboot.S, entry_pvh.S and entry_linux64.S; all
// three go through long_mode.S and arrive in payload_main() with the address of whatever the loader handed
// over.
#pragma once

#include <stdint.h>

namespace payload {

struct Boot {
  uint32_t magic;  // EAX at entry of a 32-bit protocol: 0x2BADB002 by a Multiboot loader, undefined for PVH
  uint64_t info;   // Multiboot information, hvm_start_info or boot_params
};

}  // namespace payload

extern "C" [[noreturn]] void payload_main(const payload::Boot& boot);
