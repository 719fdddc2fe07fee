// SPDX-License-Identifier: Apache-2.0
//
// Where a Linux kernel goes when its addresses are to be unpredictable: the rules of the code that would
// choose them inside the guest (arch/x86/boot/compressed/kaslr.c), had we not unpacked the kernel. Physical
// and virtual address are chosen apart. Missing: physical addresses above 4 GiB, where our page tables end.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "firmware/memory_map.h"
#include "vmm/core/types.h"

namespace vmm::firmware {

// What is drawn from; all 128 bits random.
using KaslrRandom = std::array<uint64_t, 2>;

struct KaslrRequest {
  Gpa linked;              // where it runs if nothing is chosen: also the lowest address that is
  uint64_t room = 0;       // bytes it needs to start
  uint64_t alignment = 0;  // a power of two, at least 2 MiB
  Gpa ceiling;             // it ends at or below: an initrd lies there, or RAM ends
};

// A physical address in the RAM of `map`. None if there is no room for even one.
[[nodiscard]] std::optional<Gpa> choose_base(std::span<const MemoryRange> map, const KaslrRequest& request,
                                             uint64_t random);

// How far its virtual addresses are moved: a multiple of the alignment, and all of the kernel stays in the
// 1 GiB that a kernel with relocations has for itself (KERNEL_IMAGE_SIZE). 0 if there is no choice.
[[nodiscard]] uint64_t choose_slide(const KaslrRequest& request, uint64_t random);

// What the kernel's command line says of it.
struct KaslrWish {
  bool any = true;       // no: nokaslr
  bool physical = true;  // no: mem= or memmap= may take away the RAM that would be chosen
};
[[nodiscard]] KaslrWish read_kaslr_wish(std::string_view command_line);

}  // namespace vmm::firmware
