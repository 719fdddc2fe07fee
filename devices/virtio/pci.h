// SPDX-License-Identifier: Apache-2.0
//
// virtio over PCI, modern only (virtio 1.2, 4.1): one PCI function with a memory BAR, whose pages are the
// common configuration, the interrupt status, the device configuration, and the MSI-X table and pending bits,
// and an I/O BAR of doorbells. Vendor capabilities say where; another one reaches both through configuration
// space.
//
// Doorbells are ports because of what ringing one costs: the CPU says what was written to which port, while a
// write to memory is an instruction that KVM has to decode on AMD's processors, and on Intel's of other
// doorbells than those of any width.
//
// Missing: legacy and transitional interfaces, NOTIFICATION_DATA, NOTIF_CONFIG_DATA, shared memory,
// RING_RESET. Ignored: an access to the common configuration that is not one field in its own width, or the
// two halves of a 64-bit field; doorbell values (the address says which queue); writes to the interrupt
// status.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "devices/pci/endpoint.h"
#include "devices/pci/function.h"
#include "devices/pci/msix.h"
#include "devices/pci/root_bus.h"
#include "devices/virtio/device.h"
#include "devices/virtio/pci_interrupts.h"
#include "devices/virtio/transport_core.h"
#include "vmm/core/bus.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/result.h"

namespace vmm::virtio {

class PciTransport final : public pci::Function {
 public:
  static constexpr uint8_t kBar = 0;
  static constexpr uint8_t kNotifyBar = 2;
  // Offsets in the memory BAR. Each part has its own page.
  static constexpr uint64_t kCommon = 0x0000;
  static constexpr uint64_t kIsr = 0x1000;
  static constexpr uint64_t kDevice = 0x2000;
  static constexpr uint64_t kMsixTable = 0x3000;
  static constexpr uint64_t kMsixPending = 0x4000;
  static constexpr uint64_t kBarSize = 0x8000;
  static constexpr uint32_t kNotifyMultiplier = 4;  // ports from one doorbell to the next

  // Puts the device into the next free slot of the bus. What is given must outlive the transport; what
  // TransportCore says about the end of the loop holds here, too.
  static Result<std::unique_ptr<PciTransport>> create(Device& device, const GuestMemory& memory,
                                                      pci::RootBus& bus, MsiSink& msi);

  [[nodiscard]] TransportCore& core() { return *core_; }
  [[nodiscard]] uint8_t device_number() const { return slot_.device; }

  void read_config(uint16_t offset, std::span<std::byte> out) override;
  void write_config(uint16_t offset, std::span<const std::byte> in) override;
  // Until the driver uses the PCI_CFG capability, or INTx.
  Function& plain_registers(std::function<void()> stale) override;
  void reset() override;

 private:
  class Registers final : public IoHandler {  // the memory BAR
   public:
    explicit Registers(PciTransport& transport) : transport_(transport) {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t offset, std::span<const std::byte> in) override;

   private:
    PciTransport& transport_;
  };
  class Doorbells final : public IoHandler {  // the I/O BAR, as far as the kernel does not take it
   public:
    explicit Doorbells(PciTransport& transport) : transport_(transport) {}
    void read(uint64_t /*offset*/, std::span<std::byte> /*out*/) override {}
    void write(uint64_t offset, std::span<const std::byte> in) override;

   private:
    PciTransport& transport_;
  };
  // What the PCI_CFG capability points at (4.1.4.9).
  struct Window {
    IoHandler& bar;
    uint64_t offset;
    size_t length;
  };

  PciTransport(Device& device, const pci::Slot& slot, MsiSink& msi);
  Result<void> build();
  void add_capability(uint8_t type, uint64_t offset, uint64_t length);

  // Fields of the common configuration (4.1.4.3).
  [[nodiscard]] uint32_t read_common(uint64_t offset) const;
  void write_common(uint64_t offset, uint32_t value);

  [[nodiscard]] bool touches_window(uint16_t offset, size_t size) const;
  [[nodiscard]] std::optional<Window> window();

  // Doorbells are bound from DRIVER_OK to reset: binding is dear, and a guest that looks for devices switches
  // their decoding off and on many times before.
  void settle_doorbells();

  Device& device_;
  const pci::Slot slot_;
  std::unique_ptr<TransportCore> core_;  // goes after endpoint_, which has its doorbells bound
  pci::Msix msix_;
  pci::Endpoint endpoint_;
  PciInterrupts interrupts_;
  Registers registers_{*this};
  Doorbells ports_{*this};
  uint16_t window_capability_ = 0;
  std::function<void()> stale_;  // fixed before the vCPUs run

  std::mutex doorbells_mutex_;
  bool doorbells_bound_ = false;  // guarded by doorbells_mutex_
};

}  // namespace vmm::virtio
