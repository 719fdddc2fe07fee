// SPDX-License-Identifier: Apache-2.0
//
// The fixed hardware of ACPI: the PM1a event block with the power button, the PM1a control block by which the
// guest powers off, and the PM timer. The offsets are those that the FADT gives:
//   0  PM1 status, 2 bytes      4  PM1 control, 2 bytes
//   2  PM1 enable, 2 bytes      8  PM timer, 4 bytes
//
// Specification: ACPI 6.5, 4.8.3 (PM1 and timer), 7.4.2 (_S5).
// Missing: the sleeping states S1 to S4, general-purpose events, the global lock, the sleep button, the RTC
// alarm and the timer's carry interrupt: their status bits never rise. ACPI mode is always on (there is no
// SMI command port). Ignored: BM_RLD, GBL_RLS, and a sleep type other than S5.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>

#include "vmm/core/bus.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/power.h"

namespace vmm::legacy {

class AcpiPm final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 12;
  // The value of SLP_TYP that _S5 in dsdt.asl names. Zero is what QEMU uses, too: small kernels that power
  // off by a bare write of SLP_EN to port 0x604 do so here.
  static constexpr uint16_t kSleepTypeS5 = 0;

  using Clock = std::function<std::chrono::nanoseconds()>;  // monotonic

  // `sci` is the system control interrupt, a level.
  AcpiPm(IrqLine& sci, PowerSink& power, Clock clock = {});

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

  // Any thread. The guest hears of it if it has enabled the button: true then.
  bool press_power_button();
  void reset();

  // The PM timer at `time`: 3.579545 MHz, 32 bits.
  [[nodiscard]] static uint32_t timer_ticks(std::chrono::nanoseconds time);

 private:
  struct State {
    uint16_t status = 0;
    uint16_t enable = 0;
    uint16_t control = 0;  // SLP_TYP alone is kept
  };

  [[nodiscard]] uint8_t read_register(uint64_t offset, uint32_t timer) const;
  [[nodiscard]] bool write_register(uint64_t offset, uint8_t value);  // true: power off
  void update_interrupt();

  IrqLine& sci_;
  PowerSink& power_;
  const Clock clock_;
  std::mutex mutex_;
  State state_;         // guarded by mutex_
  bool level_ = false;  // guarded by mutex_: of the interrupt
};

}  // namespace vmm::legacy
