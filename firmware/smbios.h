// SPDX-License-Identifier: Apache-2.0
//
// SMBIOS: what the machine calls itself, for dmidecode and for programs that ask which hypervisor this is
// (DMTF DSP0134 3.4). Version 3 with the 64-bit entry point only, found by a search of 0xF0000 to 0xFFFFF.
#pragma once

#include <cstdint>
#include <string>

#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::firmware {

// Where it goes: RAM that the memory map calls reserved.
inline constexpr Gpa kSmbiosBase{0xf0000};
inline constexpr uint64_t kSmbiosSpace = 0x10000;  // bytes

struct SmbiosConfig {
  std::string version;  // of this program
  uint32_t cpus = 1;    // cores of the one socket
};

// Describes `memory` and the processors. The address of the entry point comes back.
Result<Gpa> write_smbios(const GuestMemory& memory, const SmbiosConfig& config);

}  // namespace vmm::firmware
