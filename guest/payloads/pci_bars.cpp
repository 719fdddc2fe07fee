// SPDX-License-Identifier: Apache-2.0
// Lesson: base address registers: how a PCI device's registers get their place, and that they can move.
//
// Shows: the size read back after writing ones; a device that answers at its new address and no longer at the
//   old one; decoding switched off and on; and moves to where a device must not be, over RAM, over the local
//   APIC, over its neighbour, which harm nobody and end with the next good move.
// Manual: PCI Local Bus 3.0, 6.2.5.1 "Address Maps" and 6.2.2 "Device Control".
// See: one line for each move, and the exit status 33.
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "virtio_devices.h"

using namespace payload;

namespace {

constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kCommandMemory = 1u << 1;
constexpr uint64_t kElsewhere = 0xD0000000;  // in the PCI window of the machine, far from what it gives out

PciDevice find(VirtioId id, const char* what) {
  const PciDevice device = find_pci(PciAccess::ports, 0, VirtioPci::kVendor, VirtioPci::device_id(id));
  check(device.present(), what);
  device.enable(false);
  return device;
}

// The BAR that holds virtio's common configuration, and where in it.
struct Common {
  uint16_t bar_register;
  bool wide;
  uint32_t offset;
};

Common find_common(const PciDevice& device) {
  constexpr uint8_t kCommonConfiguration = 1;
  for (uint8_t at = 0; (at = device.find_capability(kCapabilityVendor, at)) != 0;) {
    if (device.read8(static_cast<uint16_t>(at + 3)) != kCommonConfiguration) continue;
    const auto bar = static_cast<uint16_t>(0x10 + 4 * device.read8(static_cast<uint16_t>(at + 4)));
    return {bar, (device.read32(bar) & 6) == 4, device.read32(static_cast<uint16_t>(at + 8))};
  }
  fail("a common configuration structure");
}

uint64_t read_bar(const PciDevice& device, const Common& common) {
  uint64_t address = device.read32(common.bar_register) & ~0xFu;
  if (common.wide) address |= uint64_t{device.read32(static_cast<uint16_t>(common.bar_register + 4))} << 32;
  return address;
}

void write_bar(const PciDevice& device, const Common& common, uint64_t address) {
  device.write32(common.bar_register, static_cast<uint32_t>(address));
  if (common.wide) {
    device.write32(static_cast<uint16_t>(common.bar_register + 4), static_cast<uint32_t>(address >> 32));
  }
}

// num_queues (virtio 1.2, 4.1.4.3): 1 for an entropy device, and all ones where nothing answers.
bool answers_at(uint64_t bar, const Common& common) {
  return mmio_read<uint16_t>(bar + common.offset + 0x12) == 1;
}
bool silent_at(uint64_t bar, const Common& common) {
  return mmio_read<uint16_t>(bar + common.offset + 0x12) == 0xFFFF;
}

void request_works(const PciDevice& device) {
  static VirtioQueue queue;
  static uint8_t numbers[16];
  const VirtioPci entropy{device};
  const VirtioBuffer buffer{numbers, sizeof(numbers), true};
  queue.start(entropy);
  check(queue.run(&buffer, 1) > 0, "a request");
}

}  // namespace

void payload_main(const Boot&) {
  const PciDevice device = find(VirtioId::entropy, "a virtio entropy device");
  const PciDevice neighbour = find(VirtioId::block, "a virtio block device");
  const Common common = find_common(device);
  const uint64_t home = VirtioPci{device}.status() == 0 ? read_bar(device, common) : 0;
  check(home != 0 && answers_at(home, common), "the device answers where its BAR says");

  const uint16_t command = device.read16(kCommand);
  device.write16(kCommand, command & static_cast<uint16_t>(~kCommandMemory));
  check(silent_at(home, common), "decoding off: nothing answers");
  write_bar(device, common, ~uint64_t{0});
  const uint64_t size = ~read_bar(device, common) + 1;
  const uint64_t size32 = common.wide ? size : (size & 0xFFFFFFFF);
  check(size32 >= 4096 && (size32 & (size32 - 1)) == 0, "the size is a power of two");
  print("size ", Hex{size32}, '\n');
  write_bar(device, common, home);
  device.write16(kCommand, command);
  check(answers_at(home, common), "decoding on: it answers again");
  print("decoding off and on\n");

  write_bar(device, common, kElsewhere);
  check(read_bar(device, common) == kElsewhere, "the BAR reads back what was written");
  check(answers_at(kElsewhere, common), "it answers at the new address");
  check(silent_at(home, common), "and no longer at the old one");
  request_works(device);  // the doorbell has moved with the rest
  print("moved within the window\n");

  constexpr uint64_t kRam = 0x400000;
  mmio_write<uint16_t>(kRam + common.offset + 0x12, 0x1234);
  write_bar(device, common, kRam);
  check(mmio_read<uint16_t>(kRam + common.offset + 0x12) == 0x1234, "RAM stays RAM under a BAR");
  check(silent_at(kElsewhere, common), "the device has left its old address");
  print("moved over RAM: RAM stays\n");

  const uint32_t version = lapic_read(Lapic::version);
  write_bar(device, common, kLapicBase);
  check(lapic_read(Lapic::version) == version, "the local APIC stays under a BAR");
  print("moved over the local APIC: it stays\n");

  write_bar(device, common, uint64_t{1} << (common.wide ? 52 : 31));
  print("moved to where no processor can reach\n");

  const Common its = find_common(neighbour);
  write_bar(device, common, read_bar(neighbour, its));
  use_block(VirtioPci{neighbour});
  print("moved over its neighbour: that one works on\n");

  write_bar(device, common, home);
  check(answers_at(home, common), "it answers at home again");
  request_works(device);
  print("home again\n");
  pass();
}
