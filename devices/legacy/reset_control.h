// SPDX-License-Identifier: Apache-2.0
//
// The reset control register of PC chipsets at port 0xCF9, which the FADT names as its reset register.
// Writing bit 2 resets the machine, whatever kind of reset bit 1 asks for.
//
// Specification: Intel ICH9 datasheet, 13.7.5.
// Missing: a reset of the CPUs alone, and full power cycles. Ignored: every other bit; port 0x92, whose bit 0
// resets a PC and which is not mapped at all, because old boot code sets the A20 gate there without care.
#pragma once

#include <atomic>
#include <cstdint>

#include "vmm/core/bus.h"
#include "vmm/core/power.h"

namespace vmm::legacy {

class ResetControl final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 1;

  explicit ResetControl(PowerSink& power) : power_(power) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;
  void reset() { value_ = 0; }

 private:
  PowerSink& power_;
  std::atomic<uint8_t> value_{0};  // the kind of reset that bit 1 prepares reads back
};

}  // namespace vmm::legacy
