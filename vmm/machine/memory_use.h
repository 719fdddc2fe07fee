// SPDX-License-Identifier: Apache-2.0
//
// What the host says that this process has of its memory (/proc/self/smaps).
#pragma once

#include <cstdint>

#include "vmm/core/guest_memory.h"

namespace vmm {

struct MemoryUse {
  uint64_t guest = 0;   // bytes of guest RAM that the host has given pages for, or lets it share with others
  uint64_t beside = 0;  // bytes of all else; of a page that several processes have, each has its share (Pss)
};

// Both 0 if the host does not tell.
[[nodiscard]] MemoryUse measure_memory(const GuestMemory& memory);

}  // namespace vmm
