// SPDX-License-Identifier: Apache-2.0
//
// How much of a guest's memory the host has given pages for.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vmm/core/guest_memory.h"

namespace vmm {

inline uint64_t resident_bytes(const GuestMemory& memory) {
  constexpr size_t kPage = 4096;
  uint64_t pages = 0;
  for (const auto& region : memory.regions()) {
    std::vector<unsigned char> in_core(region.mapping.size() / kPage);
    if (::mincore(region.mapping.data(), region.mapping.size(), in_core.data()) != 0) continue;
    pages +=
        static_cast<uint64_t>(std::ranges::count_if(in_core, [](auto page) { return (page & 1U) != 0; }));
  }
  return pages * kPage;
}

}  // namespace vmm
