// SPDX-License-Identifier: Apache-2.0
//
// What the host says that this process has of its memory (/proc/self/smaps).
#pragma once

#include <cstdint>

#include "vmm/core/guest_memory.h"

namespace vmm {

// Bytes. Beside guest RAM, of a page that several processes have each has its share (Pss).
struct MemoryUse {
  uint64_t guest = 0;    // of guest RAM that the host has given pages for, or lets it share with others
  uint64_t program = 0;  // of the program's file and its libraries'
  uint64_t heap = 0;
  uint64_t other = 0;  // stacks, buffers, rings

  [[nodiscard]] uint64_t beside() const { return program + heap + other; }
};

// All 0 if the host does not tell.
[[nodiscard]] MemoryUse measure_memory(const GuestMemory& memory);

}  // namespace vmm
