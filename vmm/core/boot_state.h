// SPDX-License-Identifier: Apache-2.0
//
// What the first vCPU holds when it starts, as the protocol of the guest's kernel asks. Tables that a mode
// needs (GDT, page tables) are already in guest memory. Whoever turns this into registers adds what every
// protocol has in common: RFLAGS = 2, interrupts off, no IDT, all other general registers zero.
#pragma once

#include <cstdint>

#include "vmm/core/types.h"

namespace vmm {

struct BootState {
  enum class Mode : uint8_t {
    real16,       // CR0.PE = 0; CS has base `code_base` and selector code_base >> 4; all other segments are 0
    protected32,  // CR0.PE = 1, CR0.PG = 0; flat 4 GiB segments
    long64,       // CR0.PE = CR0.PG = 1, CR4.PAE = 1, EFER.LME = EFER.LMA = 1; CR3 = page_tables
  };
  // Selectors in `gdt`, as the Linux boot protocol names them (__BOOT_CS, __BOOT_DS). CS is execute/read with
  // L = 1 in long64 and D = 1 in protected32; DS, ES, FS, GS and SS are read/write, D = 1. All base 0, limit
  // 4 GiB.
  static constexpr uint16_t kCodeSelector = 0x10;
  static constexpr uint16_t kDataSelector = 0x18;

  Mode mode = Mode::real16;
  uint64_t rip = 0;
  uint64_t rsp = 0;
  uint64_t rax = 0;
  uint64_t rbx = 0;
  uint64_t rsi = 0;
  uint64_t code_base = 0;  // real16 only: a multiple of 16, below 1 MiB
  Gpa gdt = {};            // protected32, long64
  uint16_t gdt_limit = 0;  // protected32, long64: size in bytes - 1
  Gpa page_tables = {};    // long64: 4-level, the low 4 GiB mapped one to one
};

}  // namespace vmm
