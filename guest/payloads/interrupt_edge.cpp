// SPDX-License-Identifier: Apache-2.0
// Lesson: an edge-triggered interrupt, from a chip through the I/O APIC to a processor.
//
// Shows: a serial port that asks for the next byte by IRQ 4 each time its transmitter is empty. An edge
//   is an event: the line has to fall and rise again before the next interrupt, and reading the chip's
//   reason makes it fall.
// Manual: 82093AA I/O APIC data sheet, 3.2.4 "IOREDTBL"; PC16550D data sheet, 8.5 "Interrupt
//   Identification Register"; ACPI 6.5, 5.2.12.5 "Interrupt Source Override Structure".
// See: the sentence on the serial port, the number of interrupts on the debug console, and the exit
//   status 33.
#include "acpi.h"
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "interrupts.h"

using namespace payload;

namespace {

constexpr uint16_t kCom1 = 0x3F8;
constexpr uint16_t kInterruptEnable = kCom1 + 1;
constexpr uint16_t kInterruptId = kCom1 + 2;
constexpr uint16_t kModemControl = kCom1 + 4;
constexpr uint16_t kLineStatus = kCom1 + 5;

constexpr uint8_t kEnableThrEmpty = 0x02;
constexpr uint8_t kReasonMask = 0x0F;
constexpr uint8_t kReasonThrEmpty = 0x02;
constexpr uint8_t kOut2 = 0x08;  // on a PC this output gates the interrupt line
constexpr uint8_t kThrEmpty = 0x20;

constexpr uint8_t kVector = 0x24;
constexpr char kText[] = "sent byte by byte, by interrupts\n";
constexpr uint32_t kBytes = sizeof(kText) - 1;

volatile uint32_t sent = 0;
volatile uint32_t interrupts = 0;
volatile uint8_t bad_reason = 0;

void on_serial(Frame&) {
  interrupts = interrupts + 1;
  const uint8_t reason = in8(kInterruptId) & kReasonMask;
  if (reason != kReasonThrEmpty) bad_reason = reason;
  if (sent < kBytes) {
    out8(kCom1, static_cast<uint8_t>(kText[sent]));
    sent = sent + 1;
  } else {
    out8(kInterruptEnable, 0);
  }
  end_of_interrupt();
}

}  // namespace

void payload_main(const Boot&) {
  set_up_interrupts();
  mask_legacy_pics();
  handle(kVector, on_serial);
  enable_lapic();

  const uint64_t rsdp = find_rsdp();
  check(rsdp != 0, "the RSDP is found");
  const Madt madt = read_madt(rsdp);
  check(madt.io_apic != 0, "the MADT names an I/O APIC");
  const IoApic io_apic{madt.io_apic};
  const uint32_t gsi = madt.isa[4].gsi;
  print("irq 4 is gsi ", gsi, '\n');
  io_apic.route(gsi - madt.io_apic_gsi_base, kVector, lapic_id(), kRedirectEdge);

  check((in8(kLineStatus) & kThrEmpty) != 0, "the transmitter is empty at the start");
  out8(kModemControl, kOut2);
  enable_interrupts();
  out8(kInterruptEnable, kEnableThrEmpty);  // empty already: the first interrupt comes at once
  check(wait_until([] { return interrupts == kBytes + 1; }),
        "one interrupt for each byte and one at the end");
  check(bad_reason == 0, "each interrupt's reason was the empty transmitter");
  delay(1'000'000);
  check(interrupts == kBytes + 1, "no interrupt once they are disabled");
  print(uint32_t{interrupts}, " interrupts\n");
  pass();
}
