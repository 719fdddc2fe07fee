// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/pci_interrupts.h"

#include <linux/virtio_pci.h>

#include <algorithm>
#include <utility>

namespace vmm::virtio {
namespace {

constexpr uint8_t kStatusQueue = 0x1;  // 4.1.4.5
constexpr uint8_t kStatusConfig = VIRTIO_PCI_ISR_CONFIG;

}  // namespace

PciInterrupts::PciInterrupts(size_t queues, pci::Msix& msix, pci::IntxPin& pin)
    : msix_(msix),
      pin_(pin),
      config_vector_(VIRTIO_MSI_NO_VECTOR),
      queue_vectors_(queues, VIRTIO_MSI_NO_VECTOR),
      bells_(queues) {}

void PciInterrupts::raise_queue(uint16_t queue, EventLoop& loop) {
  // MSI-X is asked once: an interrupt that crosses the driver's switch goes the old way or the new one.
  if (msix_.enabled()) return msix_.signal_with(queue_vector(queue), loop);
  const std::lock_guard lock{mutex_};
  status_ |= kStatusQueue;
  pin_.set_pending(true);
}

void PciInterrupts::raise_config() {
  const bool by_message = msix_.enabled();
  uint16_t vector = 0;
  {
    const std::lock_guard lock{mutex_};
    status_ |= kStatusConfig;  // with MSI-X, too (4.1.4.5.1)
    vector = config_vector_;
    if (!by_message) pin_.set_pending(true);
  }
  if (by_message) msix_.signal(vector);
}

void PciInterrupts::connect_queue(uint16_t queue, const EventFd& bell) {
  const std::lock_guard lock{mutex_};
  bells_[queue] = &bell;
  msix_.connect(queue_vectors_[queue], bell);
}

void PciInterrupts::reset() {
  const std::lock_guard lock{mutex_};
  for (size_t queue = 0; queue < bells_.size(); ++queue) {
    if (bells_[queue] != nullptr) msix_.disconnect(queue_vectors_[queue], *bells_[queue]);
    bells_[queue] = nullptr;
  }
  status_ = 0;
  pin_.set_pending(false);
  config_vector_ = VIRTIO_MSI_NO_VECTOR;
  std::ranges::fill(queue_vectors_, uint16_t{VIRTIO_MSI_NO_VECTOR});
}

uint8_t PciInterrupts::take_status() {
  const std::lock_guard lock{mutex_};
  pin_.set_pending(false);
  return std::exchange(status_, uint8_t{0});
}

uint16_t PciInterrupts::config_vector() const {
  const std::lock_guard lock{mutex_};
  return config_vector_;
}

void PciInterrupts::set_config_vector(uint32_t vector) {
  const std::lock_guard lock{mutex_};
  config_vector_ = checked(vector);
}

uint16_t PciInterrupts::queue_vector(uint32_t queue) const {
  const std::lock_guard lock{mutex_};
  return queue < queue_vectors_.size() ? queue_vectors_[queue] : uint16_t{VIRTIO_MSI_NO_VECTOR};
}

void PciInterrupts::set_queue_vector(uint32_t queue, uint32_t vector) {
  const std::lock_guard lock{mutex_};
  if (queue >= queue_vectors_.size()) return;
  const auto* bell = bells_[queue];
  if (bell != nullptr) msix_.disconnect(queue_vectors_[queue], *bell);
  queue_vectors_[queue] = checked(vector);
  if (bell != nullptr) msix_.connect(queue_vectors_[queue], *bell);
}

uint16_t PciInterrupts::checked(uint32_t vector) const {
  return vector < msix_.vectors() ? static_cast<uint16_t>(vector) : uint16_t{VIRTIO_MSI_NO_VECTOR};
}

}  // namespace vmm::virtio
