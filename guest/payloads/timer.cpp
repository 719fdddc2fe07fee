// SPDX-License-Identifier: Apache-2.0
// Lesson: a processor's own timer.
//
// Shows: the local APIC timer counting down once, periodically, and masked; the TSC-deadline mode, where
//   the kernel names a moment instead of a count; and the ACPI PM timer as a clock that needs no
//   interrupt.
// Manual: Intel SDM vol. 3, 10.5.4 "APIC Timer" and 10.5.4.1 "TSC-Deadline Mode"; ACPI 6.5, 4.8.3.3
//   "Power Management Timer".
// See: one line for each mode (TSC-deadline only where CPUID.1:ECX[24] says so), and the exit status 33.
#include "acpi.h"
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "interrupts.h"

using namespace payload;

namespace {

constexpr uint8_t kVector = 0x21;
constexpr uint32_t kDivideBy1 = 0xB;
// Two milliseconds of the 1 GHz timer that hypervisors give; longer on real boards, which the waits allow
// for.
constexpr uint32_t kCount = 2'000'000;

volatile uint32_t ticks = 0;
volatile uint64_t last_tick = 0;

void on_timer(Frame&) {
  last_tick = rdtsc();
  ticks = ticks + 1;
  end_of_interrupt();
}

void arm(uint32_t mode, uint32_t count) {
  ticks = 0;
  lapic_write(Lapic::lvt_timer, mode | kVector);
  lapic_write(Lapic::timer_initial, count);
}

// With a count so long that no host is slow enough to see its end.
void counts_down() {
  arm(kTimerOneShot | kLvtMasked, 0xFFFFFFFF);
  const uint32_t early = lapic_read(Lapic::timer_current);
  check(early > 0x80000000, "the current count starts near the initial count");
  check(wait_until([=] { return lapic_read(Lapic::timer_current) < early; }), "the current count goes down");
  lapic_write(Lapic::timer_initial, 0);
  check(lapic_read(Lapic::timer_current) == 0, "an initial count of zero stops it");
  print("counts down\n");
}

void one_shot() {
  arm(kTimerOneShot, kCount);
  check(wait_until([] { return ticks == 1; }), "one-shot: the interrupt arrives");
  check(lapic_read(Lapic::timer_current) == 0, "one-shot: the count stays at zero");
  delay(10'000'000);
  check(ticks == 1, "one-shot: one interrupt and no more");
  print("one-shot: 1 interrupt\n");
}

void periodic() {
  arm(kTimerPeriodic, kCount);
  check(wait_until([] { return ticks >= 5; }), "periodic: interrupts keep coming");
  lapic_write(Lapic::timer_initial, 0);  // 10.5.4: a zero stops it
  const uint32_t stopped_at = ticks;
  delay(20'000'000);
  check(ticks <= stopped_at + 1, "periodic: an initial count of zero stops it");
  print("periodic: 5 interrupts\n");
}

void masked() {
  arm(kTimerOneShot | kLvtMasked, kCount);
  check(wait_until([] { return lapic_read(Lapic::timer_current) == 0; }),
        "masked: the count still runs down");
  check(ticks == 0, "masked: no interrupt");
  print("masked: 0 interrupts\n");
}

void deadline() {
  constexpr uint32_t kHasDeadline = 1u << 24;
  if ((cpuid(1).ecx & kHasDeadline) == 0) {
    print("tsc-deadline: not offered\n");
    return;
  }
  ticks = 0;
  lapic_write(Lapic::lvt_timer, kTimerDeadline | kVector);
  const uint64_t far = rdtsc() + 1'000'000'000'000;
  wrmsr(kMsrTscDeadline, far);
  check(rdmsr(kMsrTscDeadline) == far, "tsc-deadline: the moment reads back while armed");
  const uint64_t moment = rdtsc() + 5'000'000;
  wrmsr(kMsrTscDeadline, moment);
  check(wait_until([] { return ticks == 1; }), "tsc-deadline: the interrupt arrives");
  check(last_tick >= moment, "tsc-deadline: not before its moment");
  check(rdmsr(kMsrTscDeadline) == 0, "tsc-deadline: disarmed after it fired");
  print("tsc-deadline: 1 interrupt, not early\n");
}

void pm_timer() {
  const uint64_t rsdp = find_rsdp();
  check(rsdp != 0, "the RSDP is found");
  const Fadt fadt = read_fadt(rsdp);
  if (fadt.pm_timer == 0) {
    print("pm timer: none\n");
    return;
  }
  const auto port = static_cast<uint16_t>(fadt.pm_timer);
  const uint32_t start = in32(port);
  // 24 bits wrap every 4.7 s at 3.579545 MHz; a wait this short is far from that.
  check(wait_until([=] { return ((in32(port) - start) & 0xFFFFFF) > 1000; }), "pm timer: it advances");
  print("pm timer: advances\n");
}

}  // namespace

void payload_main(const Boot&) {
  set_up_interrupts();
  mask_legacy_pics();
  handle(kVector, on_timer);
  enable_lapic();
  lapic_write(Lapic::timer_divide, kDivideBy1);
  enable_interrupts();
  counts_down();
  one_shot();
  periodic();
  masked();
  deadline();
  pm_timer();
  pass();
}
