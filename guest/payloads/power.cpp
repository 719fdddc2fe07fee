// SPDX-License-Identifier: Apache-2.0
// Lesson: how a machine goes down: powered off, reset, panicked, or lost.
//
// Shows: one way for each word on the command line, after announcing it on the debug console:
//     off            ACPI S5: SLP_TYP and SLP_EN in PM1a_CNT
//     button         the same, once somebody presses the power button: PM1 status, by the SCI
//     reset          the FADT's reset register
//     reset-cf9      the reset control register of PC chipsets, port 0xCF9
//     reset-8042     the keyboard controller's reset line
//     panic          the pvpanic device, by which a guest says that its kernel died
//     triple-fault   an exception that cannot be delivered, nor the two that follow from it
//     fetch-mmio     an instruction fetch from a device, which no hypervisor emulates
//     halt           HLT with interrupts off: nothing will ever happen again
// Manual: ACPI 6.5, 4.8.3.1 (PM1 events), 4.8.3.2 (PM1 control), 5.2.9 (RESET_REG); QEMU docs/specs/pvpanic;
//   Intel SDM vol. 3, 6.15 "Interrupt 8—Double Fault Exception" (a fault while calling its handler shuts the
//   processor down).
// See: the exit code of the emulator; vmm's are 0, 8 with --no-reboot, 3, 4, 5, and 6 with --timeout.
#include "acpi.h"
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "io.h"
#include "multiboot.h"

using namespace payload;

namespace {

void power_off() {
  const Fadt fadt = read_fadt(find_rsdp());
  const int type = read_s5_type(fadt);
  check(fadt.pm1a_control != 0, "the FADT names PM1a_CNT");
  check(type >= 0, "the DSDT has \\_S5");
  constexpr uint16_t kSleepEnable = 1u << 13;
  out16(static_cast<uint16_t>(fadt.pm1a_control), static_cast<uint16_t>((type << 10) | kSleepEnable));
}

volatile bool pressed = false;
uint16_t pm1_status = 0;

void on_sci(Frame&) {
  constexpr uint16_t kPowerButton = 1u << 8;
  const uint16_t events = in16(pm1_status);
  out16(pm1_status, events);  // ones clear; the level falls with the last of them
  if ((events & kPowerButton) != 0) pressed = true;
  end_of_interrupt();
}

void button() {
  constexpr uint8_t kVector = 0x29;
  constexpr uint16_t kPowerButtonEnable = 1u << 8;
  const uint64_t rsdp = find_rsdp();
  const Fadt fadt = read_fadt(rsdp);
  const Madt madt = read_madt(rsdp);
  pm1_status = static_cast<uint16_t>(fadt.pm1a_event);
  set_up_interrupts();
  mask_legacy_pics();
  handle(kVector, on_sci);
  enable_lapic();
  const uint32_t gsi = fadt.sci < 16 ? madt.isa[fadt.sci].gsi : fadt.sci;
  IoApic{madt.io_apic}.route(gsi - madt.io_apic_gsi_base, kVector, lapic_id(), kRedirectLevel);
  out16(static_cast<uint16_t>(pm1_status + fadt.pm1_event_length / 2), kPowerButtonEnable);
  print("waiting for the power button\n");
  sleep_until([] { return pressed; });
  print("the button was pressed\n");
  power_off();
}

void reset() {
  const Fadt fadt = read_fadt(find_rsdp());
  check((fadt.flags & kFadtResetSupported) != 0, "the FADT has RESET_REG_SUP");
  check(fadt.reset_space == 1, "the reset register is a port");
  out8(static_cast<uint16_t>(fadt.reset_address), fadt.reset_value);
}

void reset_cf9() {
  out8(0xCF9, 0x02);  // a hard reset, to be
  out8(0xCF9, 0x06);  // now
}

void reset_8042() {
  out8(0x64, 0xFE);
}

void panic() {
  constexpr uint16_t kPvpanic = 0x505;
  constexpr uint8_t kPanicked = 1;
  check((in8(kPvpanic) & kPanicked) != 0, "pvpanic offers the panic event");
  out8(kPvpanic, kPanicked);
}

void triple_fault() {
  struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } const none{0, 0};
  asm volatile("lidt %0; ud2" : : "m"(none));
}

void fetch_mmio() {
  constexpr uint64_t kScratchPage = 0xFEA00000;
  reinterpret_cast<void (*)()>(kScratchPage)();
}

void halt() {
  while (true) asm volatile("cli; hlt");
}

struct Way {
  const char* word;
  void (*run)();
};
constexpr Way kWays[] = {
    {"button", button}, {"reset-cf9", reset_cf9}, {"reset-8042", reset_8042},     {"reset", reset},
    {"off", power_off}, {"panic", panic},         {"triple-fault", triple_fault}, {"fetch-mmio", fetch_mmio},
    {"halt", halt},
};

}  // namespace

void payload_main(const Boot& boot) {
  check(boot.magic == kMultibootMagic, "EAX has the Multiboot magic");
  const char* command_line = multiboot_command_line(boot.info);
  for (const Way& way : kWays) {
    if (find(command_line, way.word) == nullptr) continue;
    print("going down by ", way.word, '\n');
    way.run();
    delay(1'000'000'000);  // a reset takes effect when the monitor gets to it
    fail("the machine is still there");
  }
  fail("the command line names no way down");
}
