// SPDX-License-Identifier: Apache-2.0
// virtio over PCI: virtio 1.2, 4.1.4 "Virtio Structure PCI Capabilities".
#include "console.h"
#include "io.h"
#include "virtio.h"

namespace payload {
namespace {
enum Common : uint64_t {
  kCommonDeviceFeatureSelect = 0x00,
  kCommonDeviceFeature = 0x04,
  kCommonDriverFeatureSelect = 0x08,
  kCommonDriverFeature = 0x0C,
  kCommonStatus = 0x14,
  kCommonQueueSelect = 0x16,
  kCommonQueueSize = 0x18,
  kCommonQueueVector = 0x1A,
  kCommonQueueEnable = 0x1C,
  kCommonQueueNotifyOff = 0x1E,
  kCommonQueueDesc = 0x20,
  kCommonQueueDriver = 0x28,
  kCommonQueueDevice = 0x30,
};
enum CapabilityType : uint8_t { kCapCommon = 1, kCapNotify = 2, kCapIsr = 3, kCapDevice = 4 };
}  // namespace

VirtioPci::VirtioPci(const PciDevice& device) {
  for (uint8_t at = 0; (at = device.find_capability(kCapabilityVendor, at)) != 0;) {
    const uint8_t type = device.read8(static_cast<uint16_t>(at + 3));
    if (type < kCapCommon || type > kCapDevice) continue;
    const uint8_t bar = device.read8(static_cast<uint16_t>(at + 4));
    const uint32_t offset = device.read32(static_cast<uint16_t>(at + 8));
    if (type == kCapNotify) {
      if (notify_ == 0) notify_ = static_cast<uint16_t>(device.port_bar(bar) + offset);
      notify_multiplier_ = device.read32(static_cast<uint16_t>(at + 16));
      continue;
    }
    const uint64_t address = device.map_bar(bar) + offset;
    if (type == kCapCommon && common_ == 0) common_ = address;
    if (type == kCapIsr && isr_ == 0) isr_ = address;
    if (type == kCapDevice && config_ == 0) config_ = address;
  }
  check(common_ != 0 && notify_ != 0 && isr_ != 0, "virtio: the PCI capabilities are all there");
}

uint8_t VirtioPci::status() const {
  return mmio_read<uint8_t>(common_ + kCommonStatus);
}
void VirtioPci::set_status(uint8_t status) const {
  mmio_write<uint8_t>(common_ + kCommonStatus, status);
}

uint64_t VirtioPci::device_features() const {
  uint64_t features = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    mmio_write<uint32_t>(common_ + kCommonDeviceFeatureSelect, half);
    features |= uint64_t{mmio_read<uint32_t>(common_ + kCommonDeviceFeature)} << (32 * half);
  }
  return features;
}

void VirtioPci::set_driver_features(uint64_t features) const {
  for (uint32_t half = 0; half < 2; ++half) {
    mmio_write<uint32_t>(common_ + kCommonDriverFeatureSelect, half);
    mmio_write<uint32_t>(common_ + kCommonDriverFeature, static_cast<uint32_t>(features >> (32 * half)));
  }
}

uint16_t VirtioPci::select_queue(uint16_t queue) const {
  mmio_write<uint16_t>(common_ + kCommonQueueSelect, queue);
  return mmio_read<uint16_t>(common_ + kCommonQueueSize);
}

void VirtioPci::enable_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used,
                             uint16_t vector) const {
  mmio_write<uint16_t>(common_ + kCommonQueueSize, size);
  const uint64_t rings[3] = {desc, avail, used};
  const uint64_t registers[3] = {kCommonQueueDesc, kCommonQueueDriver, kCommonQueueDevice};
  for (int i = 0; i < 3; ++i) {  // 4.1.3.1: 64-bit fields are written as two of 32 bits
    mmio_write<uint32_t>(common_ + registers[i], static_cast<uint32_t>(rings[i]));
    mmio_write<uint32_t>(common_ + registers[i] + 4, static_cast<uint32_t>(rings[i] >> 32));
  }
  mmio_write<uint16_t>(common_ + kCommonQueueVector, vector);
  check(mmio_read<uint16_t>(common_ + kCommonQueueVector) == vector,
        "virtio: the device takes the MSI-X vector");
  mmio_write<uint16_t>(common_ + kCommonQueueEnable, 1);
}

void VirtioPci::notify(uint16_t queue) const {
  mmio_write<uint16_t>(common_ + kCommonQueueSelect, queue);
  const uint32_t offset = mmio_read<uint16_t>(common_ + kCommonQueueNotifyOff);
  out16(static_cast<uint16_t>(notify_ + offset * notify_multiplier_), queue);
}

uint32_t VirtioPci::acknowledge_interrupt() const {
  return mmio_read<uint8_t>(isr_);
}
uint32_t VirtioPci::config32(uint32_t offset) const {
  return mmio_read<uint32_t>(config_ + offset);
}

}  // namespace payload
