// SPDX-License-Identifier: Apache-2.0
// Lesson: a serial port that is typed at: the receiver, its FIFO and its interrupts.
//
// Shows: each interrupt says why it came, and the driver reads until the line status says that nothing is
//   left; what was typed is said back.
// Manual: PC16550D data sheet, 8.4 "FIFO Control Register", 8.5 "Interrupt Identification Register".
// See: "heard: " and the line that was typed, its length, and the exit status 33.
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
constexpr uint16_t kFifoControl = kCom1 + 2;
constexpr uint16_t kModemControl = kCom1 + 4;
constexpr uint16_t kLineStatus = kCom1 + 5;

constexpr uint8_t kEnableReceived = 0x01;
constexpr uint8_t kFifoEnable = 0x01;
constexpr uint8_t kOut2 = 0x08;
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kOverrun = 0x02;
constexpr uint8_t kReasonMask = 0x0F;
constexpr uint8_t kReasonNone = 0x01;
constexpr uint8_t kReasonReceived = 0x04;
constexpr uint8_t kReasonTimeout = 0x0C;

constexpr uint8_t kVector = 0x24;

char line[256];
volatile uint32_t length = 0;
volatile bool complete = false;
volatile bool overrun = false;
volatile uint8_t bad_reason = 0;

void on_serial(Frame&) {
  const uint8_t reason = in8(kInterruptId) & kReasonMask;
  // None is no fault: bytes that came while this handler was reading have raised an edge of their own.
  if (reason != kReasonNone && reason != kReasonReceived && reason != kReasonTimeout) bad_reason = reason;
  for (uint8_t status; ((status = in8(kLineStatus)) & kDataReady) != 0;) {
    if ((status & kOverrun) != 0) overrun = true;
    const auto c = static_cast<char>(in8(kCom1));
    if (c == '\n' || c == '\r') {
      complete = true;
    } else if (length < sizeof(line) - 1) {
      line[length] = c;
      length = length + 1;
    }
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
  IoApic{madt.io_apic}.route(madt.isa[4].gsi - madt.io_apic_gsi_base, kVector, lapic_id(), kRedirectEdge);

  out8(kFifoControl, kFifoEnable);
  out8(kModemControl, kOut2);
  out8(kInterruptEnable, kEnableReceived);
  print("type a line\n");
  sleep_until([] { return complete; });
  print("heard: ", static_cast<const char*>(line), '\n');
  print("length ", uint32_t{length}, '\n');
  check(!overrun, "no byte was lost");
  check(bad_reason == 0, "each interrupt's reason was received data");
  pass();
}
