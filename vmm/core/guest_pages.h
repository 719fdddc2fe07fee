// SPDX-License-Identifier: Apache-2.0
//
// Guest RAM by the page, for who fills it before a guest runs: what was touched for nothing goes back, and
// what is in a file already is mapped and not copied. Only for RAM that is this process's own and of 4 KiB
// pages.
#pragma once

#include <cstdint>

#include "vmm/core/guest_memory.h"

namespace vmm {

[[nodiscard]] bool is_zero(const GuestSlice& slice);

// Takes the pages of `slice` at once, as writing to each would. A host before Linux 5.14 takes none.
void populate_pages(const GuestSlice& slice);

// Gives the pages that lie wholly inside `slice` back to the host; they read as zero, if the host takes them.
void discard_pages(const GuestSlice& slice);

// Puts the pages at `offset` of a file in place of those of `slice`, copied when somebody writes to one:
// until then all machines that have them share them. Multiples of 4 KiB. False, and nothing has changed, if
// the host does not do it.
[[nodiscard]] bool map_file_pages(const GuestSlice& slice, int fd, uint64_t offset);

}  // namespace vmm
