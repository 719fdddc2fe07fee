// SPDX-License-Identifier: Apache-2.0
// Lesson: the same virtio driver over PCI, and how PCI devices are found.
//
// Shows: configuration space through ports CF8/CFC and through memory (ECAM), which are two windows on
//   the same registers; BARs sized and placed; virtio's capabilities, which say in which BAR each
//   structure lies.
// Manual: PCI Local Bus 3.0, 3.2.2.3.2 and 6.2.5.1; PCI Express Base 5.0, 7.2.2; virtio 1.2, 4.1 "Virtio
//   Over PCI Bus". The driver is lib/pci.cpp, lib/virtio.cpp and lib/virtio_pci.cpp;
//   interrupt_message.cpp adds MSI-X.
// See: the devices on bus 0, what each virtio device answered, and the exit status 33.
#include "acpi.h"
#include "boot.h"
#include "console.h"
#include "virtio_devices.h"

using namespace payload;

namespace {

void list_bus(uint64_t ecam) {
  unsigned found = 0;
  for (uint8_t slot = 0; slot < 32; ++slot) {
    const PciDevice by_ports{PciAccess::ports, 0, slot};
    const PciDevice by_memory{PciAccess::ecam, ecam, slot};
    const uint32_t id = by_ports.read32(0);
    if (ecam != 0) check(by_memory.read32(0) == id, "ports and memory show the same device");
    if ((id & 0xFFFF) == 0xFFFF) continue;
    ++found;
    print("00:", Hex{slot}, " vendor ", Hex{id & 0xFFFF}, " device ", Hex{id >> 16}, " class ",
          Hex{by_ports.read32(8) >> 16}, '\n');
  }
  check(found > 0, "devices on bus 0");
}

VirtioPci find_virtio(PciAccess access, uint64_t ecam, VirtioId id, const char* what) {
  const PciDevice device = find_pci(access, ecam, VirtioPci::kVendor, VirtioPci::device_id(id));
  check(device.present(), what);
  device.enable(false);
  return VirtioPci{device};
}

}  // namespace

void payload_main(const Boot&) {
  const uint64_t rsdp = find_rsdp();
  check(rsdp != 0, "the RSDP is found");
  const uint64_t ecam = read_ecam_base(rsdp);
  print("ecam at ", Hex{ecam}, '\n');
  list_bus(ecam);

  use_entropy(find_virtio(PciAccess::ports, 0, VirtioId::entropy, "a virtio entropy device, by CF8/CFC"));
  check(ecam != 0, "the MCFG table names the memory window");
  use_block(find_virtio(PciAccess::ecam, ecam, VirtioId::block, "a virtio block device, by ECAM"));
  pass();
}
