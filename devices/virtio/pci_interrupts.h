// SPDX-License-Identifier: Apache-2.0
//
// How a virtio device on PCI interrupts its driver (virtio 1.2, 4.1.4.5 and 4.1.5.1.2): by the MSI-X vectors
// the driver chose for each queue and for configuration changes, or, while MSI-X is off, by the interrupt
// status register and INTx.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "devices/pci/intx.h"
#include "devices/pci/msix.h"
#include "devices/virtio/transport_core.h"

namespace vmm::virtio {

class PciInterrupts final : public TransportInterrupts {
 public:
  PciInterrupts(size_t queues, pci::Msix& msix, pci::IntxPin& pin);

  void raise_queue(uint16_t queue, EventLoop& loop) override;
  void raise_config() override;
  void connect_queue(uint16_t queue, const EventFd& bell) override;
  void reset() override;

  // The interrupt status; reading it clears it and lowers INTx.
  [[nodiscard]] uint8_t take_status();

  // Vectors read back as VIRTIO_MSI_NO_VECTOR when what was written does not exist, and for a queue that does
  // not exist.
  [[nodiscard]] uint16_t config_vector() const;
  void set_config_vector(uint32_t vector);
  [[nodiscard]] uint16_t queue_vector(uint32_t queue) const;
  void set_queue_vector(uint32_t queue, uint32_t vector);

 private:
  [[nodiscard]] uint16_t checked(uint32_t vector) const;

  pci::Msix& msix_;
  pci::IntxPin& pin_;
  mutable std::mutex mutex_;  // guards what follows; held while the pin follows status_
  uint8_t status_ = 0;
  uint16_t config_vector_;
  std::vector<uint16_t> queue_vectors_;  // never resized
  std::vector<const EventFd*> bells_;    // by queue, connected to its vector; none: nobody else rings
};

}  // namespace vmm::virtio
