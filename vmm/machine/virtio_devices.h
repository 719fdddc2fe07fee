// SPDX-License-Identifier: Apache-2.0
//
// The machine's virtio devices, each behind the transport that the configuration chose.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "devices/pci/config_memory.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "firmware/acpi.h"
#include "vmm/core/bus.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/config.h"
#include "vmm/machine/receipt.h"

namespace vmm {

class VirtioDevices {
 public:
  struct Wiring {
    EventLoop& loop;
    Backends& backends;
    const GuestMemory& memory;
    kvm::Vm& vm;
    Bus& ports;
    Bus& mmio;
    IoHandler& reset_control;                 // port 0xCF9, inside the PCI configuration ports
    const pci::ConfigMemory* ecam = nullptr;  // for PCI
  };
  static Result<std::unique_ptr<VirtioDevices>> create(const Config& config, const Wiring& wiring);
  ~VirtioDevices();

  // What the ACPI tables say of this machine.
  [[nodiscard]] firmware::AcpiConfig describe(const Config& config) const;

  // After the vCPUs have stopped: every device is reset and touches guest memory no more.
  void stop();

  [[nodiscard]] virtio::Balloon& balloon();
  [[nodiscard]] virtio::Blk& disk(size_t index);  // in the order of the configuration

  void report(Receipt& receipt) const;

 private:
  struct Parts;
  explicit VirtioDevices(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace vmm
