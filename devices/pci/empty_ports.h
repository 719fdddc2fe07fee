// SPDX-License-Identifier: Apache-2.0
//
// Ports 0xCF8 to 0xCFF of a machine without a PCI bus: an address register that keeps what it is given, and
// behind it nothing. Linux decides by that register alone whether it can reach configuration space; where it
// cannot, it reports a fatal error, on the console of every boot.
//
// Specification: PCI 3.0, 3.2.2.3.2. The byte at 0xCF9 is the reset control register's, as on PC chipsets.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>

#include "vmm/core/bus.h"

namespace vmm::pci {

class EmptyPorts final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 8;

  explicit EmptyPorts(IoHandler& reset_control) : reset_control_(reset_control) {}

  void read(uint64_t offset, std::span<std::byte> out) override {
    if (offset == kAddress && out.size() == sizeof(uint32_t)) {
      const uint32_t value = address_;
      std::memcpy(out.data(), &value, sizeof value);
    } else if (offset == kResetControl && out.size() == 1) {
      reset_control_.read(0, out);
    }
  }
  void write(uint64_t offset, std::span<const std::byte> in) override {
    if (offset == kAddress && in.size() == sizeof(uint32_t)) {
      uint32_t value = 0;
      std::memcpy(&value, in.data(), sizeof value);
      address_ = value;
    } else if (offset == kResetControl && in.size() == 1) {
      reset_control_.write(0, in);
    }
  }

 private:
  static constexpr uint64_t kAddress = 0;
  static constexpr uint64_t kResetControl = 1;
  IoHandler& reset_control_;
  std::atomic<uint32_t> address_{0};
};

}  // namespace vmm::pci
