// SPDX-License-Identifier: Apache-2.0
//
// Guest RAM by the page, for who fills it before a guest runs: what is in a file already is mapped and not
// copied.
#pragma once

#include <cstdint>

#include "vmm/core/guest_memory.h"

namespace vmm {

[[nodiscard]] bool is_zero(const GuestSlice& slice);

// Puts the pages at `offset` of a file in place of those of `slice`, copied when somebody writes to one:
// until then all machines that have them share them. Multiples of 4 KiB. Only where the memory
// can_map_files(). False, and nothing has changed, if the host does not do it.
[[nodiscard]] bool map_file_pages(const GuestSlice& slice, int fd, uint64_t offset);

}  // namespace vmm
