// SPDX-License-Identifier: Apache-2.0
#include "pci.h"

#include "console.h"
#include "io.h"

namespace payload {
namespace {

constexpr uint16_t kConfigAddress = 0xCF8;
constexpr uint16_t kConfigData = 0xCFC;

constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kStatus = 0x06;
constexpr uint16_t kBars = 0x10;
constexpr uint16_t kCapabilities = 0x34;

constexpr uint16_t kCommandIo = 1u << 0;
constexpr uint16_t kCommandMemory = 1u << 1;
constexpr uint16_t kCommandMaster = 1u << 2;
constexpr uint16_t kCommandNoIntx = 1u << 10;
constexpr uint16_t kStatusCapabilities = 1u << 4;

constexpr uint16_t kMsixEnable = 1u << 15;
constexpr uint16_t kMsixMaskAll = 1u << 14;

// Where BARs go that nobody placed: the start of the memory window of machines without firmware.
constexpr uint64_t kWindowBase = 0xC0000000;
constexpr uint64_t kWindowEnd = 0xE0000000;
uint64_t next_free = kWindowBase;

void select(uint8_t device, uint16_t offset) {
  out32(kConfigAddress, 0x80000000u | (uint32_t{device} << 11) | (offset & 0xFCu));
}

}  // namespace

uint32_t PciDevice::read32(uint16_t offset) const {
  if (access_ == PciAccess::ecam) return mmio_read<uint32_t>(ecam_ + (uint64_t{device_} << 15) + offset);
  select(device_, offset);
  return in32(kConfigData);
}

void PciDevice::write32(uint16_t offset, uint32_t value) const {
  if (access_ == PciAccess::ecam)
    return mmio_write<uint32_t>(ecam_ + (uint64_t{device_} << 15) + offset, value);
  select(device_, offset);
  out32(kConfigData, value);
}

void PciDevice::write16(uint16_t offset, uint16_t value) const {
  if (access_ == PciAccess::ecam)
    return mmio_write<uint16_t>(ecam_ + (uint64_t{device_} << 15) + offset, value);
  select(device_, offset);
  out16(static_cast<uint16_t>(kConfigData + (offset & 2)), value);
}

uint8_t PciDevice::find_capability(uint8_t id, uint8_t after) const {
  if ((read16(kStatus) & kStatusCapabilities) == 0) return 0;
  uint8_t at = after == 0 ? read8(kCapabilities) : read8(static_cast<uint16_t>(after + 1));
  for (unsigned hops = 0; at >= 0x40 && hops < 48;
       ++hops) {  // 48 capabilities fill the space: more is a loop
    if (read8(at) == id) return at;
    at = read8(static_cast<uint16_t>(at + 1));
  }
  return 0;
}

uint64_t PciDevice::map_bar(unsigned bar) const {
  const auto low = static_cast<uint16_t>(kBars + 4 * bar);
  const auto high = static_cast<uint16_t>(low + 4);
  const uint32_t value = read32(low);
  check((value & 1) == 0, "BAR is a memory BAR");
  const bool wide = (value & 0x6) == 0x4;
  uint64_t address = value & ~0xFu;
  if (wide) address |= uint64_t{read32(high)} << 32;
  if (address != 0) return address;

  write32(low, 0xFFFFFFFF);
  const uint32_t mask = read32(low) & ~0xFu;
  check(mask != 0, "BAR is implemented");
  const uint64_t size = ~mask + 1u;
  address = (next_free + size - 1) & ~(size - 1);
  next_free = address + size;
  check(next_free <= kWindowEnd, "BARs fit in the window");
  write32(low, static_cast<uint32_t>(address));
  if (wide) write32(high, 0);
  return address;
}

uint16_t PciDevice::port_bar(unsigned bar) const {
  const uint32_t value = read32(static_cast<uint16_t>(kBars + 4 * bar));
  check((value & 1) != 0, "BAR is an I/O BAR");
  const uint32_t port = value & ~0x3u;
  check(port != 0 && port <= 0xFFFC, "firmware has placed the I/O BAR");
  return static_cast<uint16_t>(port);
}

void PciDevice::enable(bool intx) const {
  const uint16_t keep = read16(kCommand) & static_cast<uint16_t>(~kCommandNoIntx);
  write16(kCommand, static_cast<uint16_t>(keep | kCommandIo | kCommandMemory | kCommandMaster |
                                          (intx ? 0 : kCommandNoIntx)));
}

PciDevice find_pci(PciAccess access, uint64_t ecam, uint16_t vendor, uint16_t device) {
  for (uint8_t slot = 0; slot < 32; ++slot) {
    const PciDevice candidate{access, ecam, slot};
    if (candidate.read32(0) == ((uint32_t{device} << 16) | vendor)) return candidate;
  }
  return {};
}

Msix::Msix(const PciDevice& device) : device_{device}, capability_{device.find_capability(kCapabilityMsix)} {
  if (capability_ == 0) return;
  vectors_ = (device_.read16(static_cast<uint16_t>(capability_ + 2)) & 0x7FFu) + 1;
  const uint32_t table = device_.read32(static_cast<uint16_t>(capability_ + 4));
  const uint32_t pending = device_.read32(static_cast<uint16_t>(capability_ + 8));
  table_ = device_.map_bar(table & 7) + (table & ~7u);
  pending_ = device_.map_bar(pending & 7) + (pending & ~7u);
}

void Msix::enable() const {
  const auto at = static_cast<uint16_t>(capability_ + 2);
  const uint16_t control = device_.read16(at) & static_cast<uint16_t>(~kMsixMaskAll);
  device_.write16(at, control | kMsixEnable);
}

void Msix::set(unsigned entry, uint8_t destination, uint8_t vector, bool masked) const {
  const uint64_t at = table_ + entry * 16;
  mmio_write<uint32_t>(at + 12, 1);  // masked while it changes
  mmio_write<uint32_t>(at + 0, 0xFEE00000u | (uint32_t{destination} << 12));
  mmio_write<uint32_t>(at + 4, 0);
  mmio_write<uint32_t>(at + 8, vector);
  mmio_write<uint32_t>(at + 12, masked ? 1 : 0);
}

void Msix::mask(unsigned entry, bool masked) const {
  mmio_write<uint32_t>(table_ + entry * 16 + 12, masked ? 1 : 0);
}

bool Msix::pending(unsigned entry) const {
  return (mmio_read<uint32_t>(pending_ + entry / 32 * 4) & (1u << (entry % 32))) != 0;
}

}  // namespace payload
