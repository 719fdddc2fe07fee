// SPDX-License-Identifier: Apache-2.0
//
// Linux's own relocations: where in a vmlinux its virtual addresses are written, so that they can be moved.
// The build appends them to the vmlinux in a bzImage, and the code that unpacks it there would apply them
// (arch/x86/tools/relocs.c, handle_relocations in arch/x86/boot/compressed/misc.c). Words of 32 bits, each
// the low half of a virtual address, in lists that each come after a zero:
//
//   0  places of 64 bits, to which the slide is added
//   0  places of 32 bits, from which it is subtracted (those relative to per-CPU data; not since Linux 6.15)
//   0  places of 32 bits, to which it is added
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

// More than any kernel has by a factor of ten.
inline constexpr uint64_t kMostRelocationBytes = 8ULL << 20;

struct Relocations {
  std::span<const uint32_t> add64;
  std::span<const uint32_t> subtract32;
  std::span<const uint32_t> add32;

  // `table` must outlive the result. None if it is not such a table from its first word to its last.
  static std::optional<Relocations> parse(std::span<const uint32_t> table);

  // Moves the kernel in `image`, all of it, by `slide` bytes. Its first byte has the virtual address
  // `virtual_base` before that. Fails, and has changed nothing, if a place is not wholly inside; `name` is
  // the file's.
  [[nodiscard]] Result<void> apply(const GuestSlice& image, uint64_t virtual_base, uint64_t slide,
                                   std::string_view name) const;
};

}  // namespace vmm::firmware
