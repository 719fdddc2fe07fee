// SPDX-License-Identifier: Apache-2.0
//
// The parts every device on the bus has: a type-0 configuration space whose command register and BARs take
// effect, an INTx pin and MSI-X. A device owns one, adds its BARs and capabilities to it, and calls
// power_on().
//
// Specification: PCI Local Bus 3.0, chapter 6.
// Missing: expansion ROM, power management, MSI (without X), multi-function devices.
// Ignored: the bus-master bit (a device here reaches RAM only through queues its driver gave it).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "devices/pci/bar_space.h"
#include "devices/pci/config_space.h"
#include "devices/pci/function.h"
#include "devices/pci/intx.h"
#include "devices/pci/msix.h"
#include "vmm/core/result.h"

namespace vmm::pci {

// A place on the bus for one device (root_bus.h hands them out).
struct Slot {
  uint8_t device = 0;  // 1..31
  BarSpace& memory;
  BarSpace& ports;
  IntxWire& wire;
};

class Endpoint final : public Function {
 public:
  enum class BarKind : uint8_t { memory32, memory64, io };
  struct MsixPlace {
    uint8_t bar = 0;
    uint32_t table = 0;         // offset in the BAR, a multiple of 8
    uint32_t pending_bits = 0;  // the same
  };

  // `name` is for the log and the statistics.
  Endpoint(std::string name, const Slot& slot, const Identity& identity);

  // Set-up, before power_on(). A 64-bit BAR takes the registers `index` and `index + 1`. `size` as in
  // BarRegion.
  Result<void> add_bar(uint8_t index, BarKind kind, uint64_t size, IoHandler& handler);
  uint16_t add_capability(uint8_t id, std::span<const std::byte> body,
                          std::span<const std::byte> writable = {}) {
    return config_.add_capability(id, body, writable);
  }
  void add_msix(Msix& msix, const MsixPlace& place);
  // Assigns the BARs, as a firmware leaves a device that it had no use for: decoding is the driver's to
  // switch on. A guest that looks for the size of BARs switches it off and on around each, if it finds it on.
  // The state of now is what reset() returns to.
  void power_on();

  [[nodiscard]] BarRegion& bar(uint8_t index);
  [[nodiscard]] IntxPin& intx() { return intx_; }

  void read_config(uint16_t offset, std::span<std::byte> out) override;
  void write_config(uint16_t offset, std::span<const std::byte> in) override;
  // Until the first INTx interrupt, which shows in the status register.
  Function& plain_registers(std::function<void()> stale) override {
    intx_.on_pending(std::move(stale));
    return *this;
  }
  void reset() override;

 private:
  static constexpr uint8_t kBars = 6;
  struct Bar {
    BarKind kind = BarKind::memory32;
    uint64_t power_on = 0;
    std::unique_ptr<BarRegion> region;  // none: not implemented, or the upper half of a 64-bit BAR
  };
  // With mutex_ held: makes the world agree with the registers.
  void apply(BarRegion::Refusal refusal);
  void apply_bar(uint8_t index, BarRegion::Refusal refusal);

  const std::string name_;
  BarSpace& memory_;
  BarSpace& ports_;
  IntxPin intx_;
  Msix* msix_ = nullptr;
  uint16_t msix_capability_ = 0;
  std::array<Bar, kBars> bars_;
  mutable std::mutex mutex_;  // guards config_
  ConfigSpace config_;
  ConfigSpace power_on_;  // fixed by power_on()
};

}  // namespace vmm::pci
