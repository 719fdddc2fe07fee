// SPDX-License-Identifier: Apache-2.0
//
// What is left of the keyboard controller: the wire from its output port to the reset pin of a PC, by which
// old code reboots. Everything else reads as a controller with nothing to say and always ready to listen.
//
// Specification: IBM PC AT Technical Reference (1984), "Keyboard Controller": commands 0xD1 and 0xF0 to 0xFF.
// Missing: keyboard, mouse, self-test; a driver that probes finds no controller, and the FADT says so before.
// Ignored: every other command, and the A20 gate, which is always open.
#pragma once

#include <atomic>
#include <cstdint>

#include "vmm/core/bus.h"
#include "vmm/core/power.h"

namespace vmm::legacy {

class I8042 final : public IoHandler {
 public:
  static constexpr uint64_t kPorts =
      5;  // 0x60 data, 0x64 status and command; what is between belongs to others

  explicit I8042(PowerSink& power) : power_(power) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;
  void reset() { output_port_follows_ = false; }

 private:
  void write_register(uint64_t offset, uint8_t value);

  PowerSink& power_;
  std::atomic<bool> output_port_follows_{false};  // the next data byte is for the output port
};

}  // namespace vmm::legacy
