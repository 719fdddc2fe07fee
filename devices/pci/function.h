// SPDX-License-Identifier: Apache-2.0
//
// What the root bus needs of a PCI function: its configuration space and its power-on state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace vmm::pci {

class Function {
 public:
  virtual ~Function() = default;
  // 1 to 4 bytes inside one aligned dword of the 4 KiB configuration space (byte enables,
  // PCI 3.0, 3.2.2.3.4). Any vCPU thread, several at once.
  virtual void read_config(uint16_t offset, std::span<std::byte> out) = 0;
  virtual void write_config(uint16_t offset, std::span<const std::byte> in) = 0;
  // The function to read instead of this one, whose reads have no effect and whose registers only
  // configuration writes change, so that a copy of them will do. It says so by calling `stale`, before that
  // ends: from any thread, holding its locks, perhaps more than once; reset() makes it true again. Before the
  // vCPUs run.
  virtual Function& plain_registers(std::function<void()> stale) = 0;
  // Back to power-on state, BARs where the firmware put them. No vCPU runs.
  virtual void reset() = 0;
};

}  // namespace vmm::pci
