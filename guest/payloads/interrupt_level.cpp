// SPDX-License-Identifier: Apache-2.0
// Lesson: a level-triggered interrupt, as PCI devices raise on their INTx pin.
//
// Shows: a level is a state: as long as the device holds the line the interrupt comes again after each
//   end-of-interrupt, and it stops when the driver has taken the reason away (here by reading virtio's
//   ISR status).
// Manual: 82093AA I/O APIC data sheet, 3.2.4 (trigger mode, remote IRR); PCI Local Bus 3.0, 2.2.6
//   "Interrupt Pins"; virtio 1.2, 4.1.4.5 "ISR status capability".
// See: which input of the I/O APIC the device is wired to, two interrupts for one request, and the exit
//   status 33.
//
// How an INTx pin is wired to the I/O APIC is told by ACPI's _PRT, in AML. This program has no
// interpreter for that, so it listens on all the inputs that PCI may use (16 and up) and sees which one
// is raised.
#include "acpi.h"
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "pci.h"
#include "virtio.h"

using namespace payload;

namespace {

constexpr uint8_t kFirstVector = 0x28;
constexpr unsigned kFirstInput = 16;
constexpr unsigned kInputs = 8;

const VirtioTransport* transport = nullptr;
volatile uint32_t interrupts = 0;
volatile uint64_t vector = 0;
volatile uint32_t reason = 0;

void on_interrupt(Frame& frame) {
  interrupts = interrupts + 1;
  vector = frame.vector;
  // The first time the reason is left alone, to be interrupted again; a driver would not do that.
  if (interrupts >= 2) reason = reason | transport->acknowledge_interrupt();
  if (interrupts > 8) fail("the line falls when the ISR status has been read");
  end_of_interrupt();
}

VirtioQueue queue;
uint8_t numbers[16];

}  // namespace

void payload_main(const Boot&) {
  set_up_interrupts();
  mask_legacy_pics();
  enable_lapic();
  const uint64_t rsdp = find_rsdp();
  check(rsdp != 0, "the RSDP is found");
  const IoApic io_apic{read_madt(rsdp).io_apic};
  check(io_apic.inputs() >= kFirstInput + kInputs, "the I/O APIC has 24 inputs");
  for (uint8_t i = 0; i < kInputs; ++i) {
    handle(static_cast<uint8_t>(kFirstVector + i), on_interrupt);
    io_apic.route(kFirstInput + i, static_cast<uint8_t>(kFirstVector + i), lapic_id(),
                  kRedirectLevel | kRedirectActiveLow);
  }
  enable_interrupts();

  const PciDevice device =
      find_pci(PciAccess::ports, 0, VirtioPci::kVendor, VirtioPci::device_id(VirtioId::entropy));
  check(device.present(), "a virtio entropy device on PCI bus 0");
  constexpr uint16_t kInterruptPin = 0x3D;
  check(device.read8(kInterruptPin) == 1, "the device uses INTA");
  device.enable(true);
  const VirtioPci entropy{device};
  transport = &entropy;
  queue.start(entropy);  // MSI-X stays disabled, so the device uses its pin

  const VirtioBuffer buffer{numbers, sizeof(numbers), true};
  queue.submit(&buffer, 1);
  check(wait_until([] { return queue.done(); }), "the device fills the buffer");
  check(wait_until([] { return interrupts >= 2; }), "the interrupt comes again while the line is held");
  delay(2'000'000);
  if (interrupts != 2) {
    print(uint32_t{interrupts}, " interrupts\n");
    fail("no interrupt once the reason is taken away");
  }
  check(reason == 1, "the reason was: a queue was used");
  print("input ", kFirstInput + vector - kFirstVector, '\n');
  print("2 interrupts for 1 request\n");
  pass();
}
