// SPDX-License-Identifier: Apache-2.0
//
// PCI bus 0: the host bridge at 00:00.0, up to 31 devices of one function each, and the two ways a guest
// reaches their configuration space: ports 0xCF8/0xCFC (PCI 3.0, 3.2.2.3.2) and ECAM (PCI
// Express 5.0, 7.2.2). What is not there reads all-ones.
//
// Missing: bridges and other buses, functions 1 to 7, hot plug.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "devices/pci/bar_space.h"
#include "devices/pci/config_memory.h"
#include "devices/pci/config_page.h"
#include "devices/pci/config_space.h"
#include "devices/pci/endpoint.h"
#include "devices/pci/function.h"
#include "devices/pci/intx.h"
#include "vmm/core/bus.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/readable_pages.h"
#include "vmm/core/result.h"

namespace vmm::pci {

class RootBus {
 public:
  static constexpr Port kConfigPort{0xcf8};        // address and data register, 8 ports
  static constexpr uint64_t kEcamSize = 1U << 20;  // one bus
  static constexpr uint8_t kDevices = ConfigMemory::kDevices;

  struct Place {
    const ConfigMemory& ecam;               // kEcamSize bytes; outlives the bus
    ReadablePages& readable;                // lets the guest read them without exits, as far as the host can
    BarSpace::Window memory;                // for BARs: of guest-physical addresses
    BarSpace::Window ports;                 // and of ports
    std::array<IrqLine*, kIntxWires> intx;  // the inputs intx_gsi() names: GSI 16, 17, 18, 19
    // The reset control register at port 0xCF9, which lies within the address register: byte accesses there
    // are its own, as offset 0. None: they go nowhere.
    IoHandler* reset_control = nullptr;
  };
  // Maps the configuration ports and ECAM.
  static Result<std::unique_ptr<RootBus>> create(Bus& ports, Bus& mmio, DoorbellSink& doorbells,
                                                 const Place& place);

  // The lowest free place, taken; in the order of the calls, so device numbers stay the same from run to run.
  Result<Slot> take_slot();
  // From now on `function` answers at `slot`; it must outlive the last access of a vCPU. Before the vCPUs
  // run.
  void plug(const Slot& slot, Function& function);

  // Every function back to power-on state. No vCPU runs.
  void reset();

 private:
  class HostBridge final : public Function {  // a header and nothing else
   public:
    HostBridge();
    void read_config(uint16_t offset, std::span<std::byte> out) override;
    void write_config(uint16_t /*offset*/, std::span<const std::byte> /*in*/) override {}
    Function& plain_registers(std::function<void()> /*stale*/) override { return *this; }
    void reset() override {}

   private:
    const ConfigSpace config_;
  };
  class Ports final : public IoHandler {
   public:
    explicit Ports(RootBus& bus) : bus_(bus) {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t offset, std::span<const std::byte> in) override;
    std::atomic<uint32_t> address{0};

   private:
    RootBus& bus_;
  };
  class Ecam final : public IoHandler {
   public:
    explicit Ecam(RootBus& bus) : bus_(bus) {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t offset, std::span<const std::byte> in) override;

   private:
    RootBus& bus_;
  };

  RootBus(Bus& ports, Bus& mmio, DoorbellSink& doorbells, const Place& place);
  // The function that ECAM offset `at` belongs to: device in bits 15-19, function in bits 12-14.
  [[nodiscard]] Function* function_at(uint64_t at) const;
  // At dword-wise `at`, where the bus has a function; else nothing happens.
  void write_config(uint64_t at, std::span<const std::byte> in);
  void add_page(uint8_t device);

  IoHandler* const reset_control_;
  BarSpace memory_bars_;
  BarSpace port_bars_;
  std::array<IntxWire, kIntxWires> wires_;
  HostBridge host_bridge_;
  std::array<Function*, kDevices> functions_{};  // fixed before the vCPUs run
  const ConfigMemory& page_memory_;
  ReadablePages& readable_;
  std::array<std::optional<ConfigPage>, kDevices> pages_;
  uint8_t next_device_ = 1;
  Ports ports_{*this};
  Ecam ecam_{*this};
};

}  // namespace vmm::pci
