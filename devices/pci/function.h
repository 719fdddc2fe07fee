// SPDX-License-Identifier: Apache-2.0
//
// What the root bus needs of a PCI function: its configuration space and its power-on state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmm::pci {

class Function {
 public:
  virtual ~Function() = default;
  // 1 to 4 bytes inside one aligned dword of the 4 KiB configuration space (byte enables,
  // PCI 3.0, 3.2.2.3.4). Any vCPU thread, several at once.
  virtual void read_config(uint16_t offset, std::span<std::byte> out) = 0;
  virtual void write_config(uint16_t offset, std::span<const std::byte> in) = 0;
  // Back to power-on state, BARs where the firmware put them. No vCPU runs.
  virtual void reset() = 0;
};

}  // namespace vmm::pci
