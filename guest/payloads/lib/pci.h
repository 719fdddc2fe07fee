// SPDX-License-Identifier: Apache-2.0
// PCI configuration: both ways in (PCI Local Bus 3.0, 3.2.2.3.2 "CF8/CFC"; PCI Express Base 5.0, 7.2.2
// "ECAM"), base address registers, and the capability list (PCI Local Bus 3.0, 6.7). Bus 0 and function 0
// only: there are no bridges here.
#pragma once

#include <stdint.h>

namespace payload {

enum class PciAccess { ports, ecam };

class PciDevice {
 public:
  PciDevice() = default;
  PciDevice(PciAccess access, uint64_t ecam, uint8_t device)
      : present_{true}, access_{access}, ecam_{ecam}, device_{device} {}

  uint32_t read32(uint16_t offset) const;
  uint16_t read16(uint16_t offset) const {
    return static_cast<uint16_t>(read32(offset & ~3) >> (8 * (offset & 2)));
  }
  uint8_t read8(uint16_t offset) const {
    return static_cast<uint8_t>(read32(offset & ~3) >> (8 * (offset & 3)));
  }
  void write32(uint16_t offset, uint32_t value) const;
  // As one access of two bytes: a write of the whole dword would also write 1s back to the status register.
  void write16(uint16_t offset, uint16_t value) const;

  uint8_t device() const { return device_; }
  bool present() const { return present_; }
  // Offset of the first capability with this id after `after` (0: from the start), or 0.
  uint8_t find_capability(uint8_t id, uint8_t after = 0) const;
  // Sizes the memory BAR by the rule of 6.2.5.1, gives it an address if firmware has not, and returns the
  // address.
  uint64_t map_bar(unsigned bar) const;
  // The first port of an I/O BAR, which firmware has placed.
  uint16_t port_bar(unsigned bar) const;
  // Decoding and bus mastering on; INTx off unless asked for.
  void enable(bool intx) const;

 private:
  bool present_ = false;
  PciAccess access_ = PciAccess::ports;
  uint64_t ecam_ = 0;
  uint8_t device_ = 0;
};

// The first function 0 on bus 0 with these ids; present() is false if there is none.
PciDevice find_pci(PciAccess access, uint64_t ecam, uint16_t vendor, uint16_t device);

constexpr uint8_t kCapabilityVendor = 0x09;
constexpr uint8_t kCapabilityMsix = 0x11;

// MSI-X (PCI Local Bus 3.0, 6.8.2): the table and the pending bits live in BARs of the device.
class Msix {
 public:
  explicit Msix(const PciDevice& device);
  bool present() const { return capability_ != 0; }
  unsigned vectors() const { return vectors_; }
  void enable() const;
  // A write of `vector` to the local APIC `destination` (SDM vol. 3, 10.11).
  void set(unsigned entry, uint8_t destination, uint8_t vector, bool masked) const;
  void mask(unsigned entry, bool masked) const;
  bool pending(unsigned entry) const;

 private:
  PciDevice device_;
  uint8_t capability_ = 0;
  unsigned vectors_ = 0;
  uint64_t table_ = 0;
  uint64_t pending_ = 0;
};

}  // namespace payload
