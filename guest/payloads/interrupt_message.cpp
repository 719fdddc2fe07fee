// SPDX-License-Identifier: Apache-2.0
// Lesson: a message-signalled interrupt: the device writes to the local APIC, no line is involved.
//
// Shows: an MSI-X table entry is an address and a value that the driver chooses; a masked entry remembers
//   an interrupt in the pending bits and delivers it when unmasked.
// Manual: PCI Local Bus 3.0, 6.8.2 "MSI-X Capability and Table Structure"; Intel SDM vol. 3, 10.11
//   "Message Signalled Interrupts"; virtio 1.2, 4.1.5.1.2 "MSI-X Vector Configuration".
// See: one interrupt for a request, none while masked, the pending bit, one after unmasking, and the exit
//   status 33.
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

constexpr uint8_t kVector = 0x2A;
constexpr uint8_t kOtherVector = 0x2B;
constexpr unsigned kEntry = 0;

volatile uint32_t interrupts = 0;
volatile uint32_t other_interrupts = 0;

void on_message(Frame&) {
  interrupts = interrupts + 1;
  end_of_interrupt();
}
void on_other_message(Frame&) {
  other_interrupts = other_interrupts + 1;
  end_of_interrupt();
}

VirtioQueue queue;
uint8_t numbers[16];

void request() {
  const VirtioBuffer buffer{numbers, sizeof(numbers), true};
  queue.run(&buffer, 1);
}

}  // namespace

void payload_main(const Boot&) {
  set_up_interrupts();
  mask_legacy_pics();
  handle(kVector, on_message);
  handle(kOtherVector, on_other_message);
  enable_lapic();
  enable_interrupts();

  const PciDevice device =
      find_pci(PciAccess::ports, 0, VirtioPci::kVendor, VirtioPci::device_id(VirtioId::entropy));
  check(device.present(), "a virtio entropy device on PCI bus 0");
  device.enable(false);
  const VirtioPci entropy{device};
  const Msix msix{device};
  check(msix.present(), "the device has the MSI-X capability");
  print("vectors ", msix.vectors(), '\n');
  msix.enable();
  msix.set(kEntry, lapic_id(), kVector, false);
  queue.start(entropy, kEntry);

  request();
  check(wait_until([] { return interrupts == 1; }), "an interrupt for the request");
  check(!msix.pending(kEntry), "nothing pending after delivery");
  print("unmasked: delivered\n");

  msix.mask(kEntry, true);
  request();
  check(wait_until([&] { return msix.pending(kEntry); }), "masked: the pending bit is set");
  check(interrupts == 1, "masked: no interrupt");
  print("masked: pending\n");
  msix.mask(kEntry, false);
  check(wait_until([] { return interrupts == 2; }), "unmasking delivers the pending interrupt");
  check(!msix.pending(kEntry), "and clears its pending bit");
  print("unmasked again: delivered\n");

  msix.set(kEntry, lapic_id(), kOtherVector, false);
  request();
  check(wait_until([] { return other_interrupts == 1; }), "a changed entry takes effect");
  check(interrupts == 2, "and the old vector is silent");
  print("moved to another vector\n");
  pass();
}
