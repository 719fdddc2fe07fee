// SPDX-License-Identifier: Apache-2.0
//
// pvpanic: the port by which a guest's kernel says that it panicked. ACPI lists it as QEMU0001; Linux has the
// driver pvpanic.
//
// Specification: QEMU, docs/specs/pvpanic.
// Missing: the newer event "shutdown" and the PCI form. Ignored: "crash kernel loaded" beyond a line in the
// log, and every other bit.
#pragma once

#include <cstdint>

#include "vmm/core/bus.h"
#include "vmm/core/log.h"
#include "vmm/core/power.h"

namespace vmm::legacy {

class Pvpanic final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 1;

  explicit Pvpanic(PowerSink& power) : power_(power) {}
  void read(uint64_t offset, std::span<std::byte> out) override;  // the events it knows
  void write(uint64_t offset, std::span<const std::byte> in) override;

 private:
  PowerSink& power_;
  LogLimit crash_loaded_{3};
};

}  // namespace vmm::legacy
