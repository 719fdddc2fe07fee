// SPDX-License-Identifier: Apache-2.0
// virtio over MMIO: virtio 1.2, 4.2.2 "MMIO Device Register Layout".
#include "console.h"
#include "io.h"
#include "virtio.h"

namespace payload {
namespace {
enum Mmio : uint64_t {
  kMmioMagic = 0x000,
  kMmioVersion = 0x004,
  kMmioDeviceId = 0x008,
  kMmioDeviceFeatures = 0x010,
  kMmioDeviceFeaturesSel = 0x014,
  kMmioDriverFeatures = 0x020,
  kMmioDriverFeaturesSel = 0x024,
  kMmioQueueSel = 0x030,
  kMmioQueueNumMax = 0x034,
  kMmioQueueNum = 0x038,
  kMmioQueueReady = 0x044,
  kMmioQueueNotify = 0x050,
  kMmioInterruptStatus = 0x060,
  kMmioInterruptAck = 0x064,
  kMmioStatus = 0x070,
  kMmioQueueDesc = 0x080,
  kMmioQueueDriver = 0x090,
  kMmioQueueDevice = 0x0A0,
  kMmioConfig = 0x100,
};
}  // namespace

bool VirtioMmio::is(VirtioId id) const {
  return mmio_read<uint32_t>(base_ + kMmioMagic) == 0x74726976 /* "virt" */ &&
         mmio_read<uint32_t>(base_ + kMmioVersion) == 2 &&
         mmio_read<uint32_t>(base_ + kMmioDeviceId) == static_cast<uint32_t>(id);
}

uint8_t VirtioMmio::status() const {
  return static_cast<uint8_t>(mmio_read<uint32_t>(base_ + kMmioStatus));
}
void VirtioMmio::set_status(uint8_t status) const {
  mmio_write<uint32_t>(base_ + kMmioStatus, status);
}

uint64_t VirtioMmio::device_features() const {
  uint64_t features = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    mmio_write<uint32_t>(base_ + kMmioDeviceFeaturesSel, half);
    features |= uint64_t{mmio_read<uint32_t>(base_ + kMmioDeviceFeatures)} << (32 * half);
  }
  return features;
}

void VirtioMmio::set_driver_features(uint64_t features) const {
  for (uint32_t half = 0; half < 2; ++half) {
    mmio_write<uint32_t>(base_ + kMmioDriverFeaturesSel, half);
    mmio_write<uint32_t>(base_ + kMmioDriverFeatures, static_cast<uint32_t>(features >> (32 * half)));
  }
}

uint16_t VirtioMmio::select_queue(uint16_t queue) const {
  mmio_write<uint32_t>(base_ + kMmioQueueSel, queue);
  return static_cast<uint16_t>(mmio_read<uint32_t>(base_ + kMmioQueueNumMax));
}

void VirtioMmio::enable_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used, uint16_t) const {
  mmio_write<uint32_t>(base_ + kMmioQueueNum, size);
  const uint64_t rings[3] = {desc, avail, used};
  const uint64_t registers[3] = {kMmioQueueDesc, kMmioQueueDriver, kMmioQueueDevice};
  for (int i = 0; i < 3; ++i) {
    mmio_write<uint32_t>(base_ + registers[i], static_cast<uint32_t>(rings[i]));
    mmio_write<uint32_t>(base_ + registers[i] + 4, static_cast<uint32_t>(rings[i] >> 32));
  }
  mmio_write<uint32_t>(base_ + kMmioQueueReady, 1);
}

void VirtioMmio::notify(uint16_t queue) const {
  mmio_write<uint32_t>(base_ + kMmioQueueNotify, queue);
}

uint32_t VirtioMmio::acknowledge_interrupt() const {
  const auto status = mmio_read<uint32_t>(base_ + kMmioInterruptStatus);
  mmio_write<uint32_t>(base_ + kMmioInterruptAck, status);
  return status;
}

uint32_t VirtioMmio::config32(uint32_t offset) const {
  return mmio_read<uint32_t>(base_ + kMmioConfig + offset);
}

uint64_t find_virtio_mmio(VirtioId id, const char* command_line) {
  bool listed = false;
  for (const char* at = command_line; (at = find(at, "virtio_mmio.device=")) != nullptr;) {
    listed = true;
    at = find(at, "@0x");
    if (at == nullptr) break;
    uint64_t base = 0;
    for (;; ++at) {
      if (*at >= '0' && *at <= '9')
        base = base * 16 + static_cast<uint64_t>(*at - '0');
      else if (*at >= 'a' && *at <= 'f')
        base = base * 16 + static_cast<uint64_t>(*at - 'a' + 10);
      else
        break;
    }
    if (VirtioMmio{base}.is(id)) return base;
  }
  if (listed) return 0;
  for (uint64_t base = 0xFEB00000; base < 0xFEB10000; base += 0x1000) {
    if (VirtioMmio{base}.is(id)) return base;
  }
  return 0;
}

}  // namespace payload
