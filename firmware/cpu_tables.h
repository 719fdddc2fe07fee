// SPDX-License-Identifier: Apache-2.0
//
// The tables that a processor needs before it can run outside real mode, and the state that goes with them.
#pragma once

#include <cstdint>

#include "vmm/core/boot_state.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

// 32-bit protected mode without paging, at `entry`. Writes the GDT.
Result<BootState> enter_protected32(const GuestMemory& memory, uint32_t entry);

// 64-bit mode at `entry`. Writes the GDT, and page tables that map the low 4 GiB one to one.
Result<BootState> enter_long64(const GuestMemory& memory, uint64_t entry);

}  // namespace vmm::firmware
