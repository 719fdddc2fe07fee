// SPDX-License-Identifier: Apache-2.0
// Exceptions and interrupts in long mode: an IDT of 64 gates whose stubs (interrupts.S) all end in one table
// of handlers. Intel SDM vol. 3, 6.14 "Exception and Interrupt Handling in 64-bit Mode".
//
// An exception nobody handles ends the run with a line that says which and where.
#pragma once

#include <stdint.h>

namespace payload {

constexpr unsigned kVectors = 64;
constexpr uint8_t kFirstFreeVector = 0x20;  // 0x00-0x1F are the processor's own

// The stack as interrupts.S leaves it, from the lowest address up.
struct Frame {
  uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
  uint64_t vector;
  uint64_t error;  // 0 for vectors without an error code
  uint64_t rip, cs, rflags, rsp, ss;
};

using Handler = void (*)(Frame& frame);

// Fills the IDT and loads it on this processor. Others call load_idt() alone.
void set_up_interrupts();
void load_idt();
// A null handler gives the vector back.
void handle(uint8_t vector, Handler handler);

}  // namespace payload
