// SPDX-License-Identifier: Apache-2.0
#include "interrupts.h"

#include "console.h"
#include "cpu.h"

extern "C" const uint8_t interrupt_stubs[];  // 16 bytes each

namespace payload {
namespace {

// SDM vol. 3, figure 6-8: 64-bit IDT gate descriptor.
struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint8_t ist;
  uint8_t type;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

constexpr uint16_t kCodeSelector = 0x08;
constexpr uint8_t kInterruptGate = 0x8E;  // present, DPL 0, interrupts off while it runs

alignas(16) Gate idt[kVectors];
Handler handlers[kVectors];

}  // namespace

void load_idt() {
  struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } const pointer{sizeof(idt) - 1, reinterpret_cast<uint64_t>(idt)};
  asm volatile("lidt %0" : : "m"(pointer));
}

void set_up_interrupts() {
  for (unsigned vector = 0; vector < kVectors; ++vector) {
    const auto stub = reinterpret_cast<uint64_t>(interrupt_stubs) + vector * 16;
    idt[vector] = {static_cast<uint16_t>(stub),
                   kCodeSelector,
                   0,
                   kInterruptGate,
                   static_cast<uint16_t>(stub >> 16),
                   0,
                   0};
  }
  load_idt();
}

void handle(uint8_t vector, Handler handler) {
  handlers[vector] = handler;
}

}  // namespace payload

extern "C" void dispatch_interrupt(payload::Frame& frame) {
  using namespace payload;
  if (const Handler handler = handlers[frame.vector]) return handler(frame);
  print("vector ", frame.vector, " error ", Hex{frame.error}, " at ", Hex{frame.rip}, " cr2 ",
        Hex{read_cr2()}, '\n');
  fail("unexpected exception or interrupt");
}
