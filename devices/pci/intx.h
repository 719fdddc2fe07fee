// SPDX-License-Identifier: Apache-2.0
//
// INTx, the wired interrupts of PCI (PCI 3.0, 2.2.6): level-triggered, and shared by the functions whose pins
// are tied to the same wire. Every function here uses pin A.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "vmm/core/interrupt.h"
#include "vmm/core/types.h"

namespace vmm::pci {

inline constexpr uint32_t kIntxWires = 4;

// How slots are wired to the interrupt controller; the ACPI _PRT says the same.
constexpr Gsi intx_gsi(uint8_t device) {
  return Gsi{16 + (device % kIntxWires)};
}

// One interrupt input that several functions drive: high while any of them drives it.
class IntxWire {
 public:
  explicit IntxWire(IrqLine& line) : line_(line) {}
  void drive();
  void release();  // once for every drive()

 private:
  std::mutex mutex_;
  IrqLine& line_;
  uint32_t drivers_ = 0;  // guarded by mutex_
};

// The interrupt pin of one function: drives its wire while an interrupt is pending and the guest wants it so.
class IntxPin {
 public:
  explicit IntxPin(IntxWire& wire) : wire_(wire) {}
  ~IntxPin();
  IntxPin(const IntxPin&) = delete;
  IntxPin& operator=(const IntxPin&) = delete;

  void set_pending(bool pending);  // any thread
  // Called before each rise of pending(), under a lock. Before the vCPUs run.
  void on_pending(std::function<void()> call) { on_pending_ = std::move(call); }
  void set_enabled(bool enabled);  // off by command bit 10, and while MSI-X is on (PCI 3.0, 6.8.2)
  [[nodiscard]] bool pending() const;

 private:
  void update();

  mutable std::mutex mutex_;  // guards what follows
  IntxWire& wire_;
  std::function<void()> on_pending_;  // fixed before the vCPUs run
  bool pending_ = false;
  bool enabled_ = true;
  bool driving_ = false;
};

}  // namespace vmm::pci
