// SPDX-License-Identifier: Apache-2.0
// The smallest virtio 1.x driver that is still correct: one split queue (virtio 1.2, 2.7), polled or
// interrupt-driven, over either transport. It negotiates VIRTIO_F_VERSION_1 and nothing else.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "pci.h"

namespace payload {

enum class VirtioId : uint32_t { block = 2, entropy = 4 };

// Device status, 2.1.
enum VirtioStatus : uint8_t {
  kStatusAcknowledge = 1,
  kStatusDriver = 2,
  kStatusDriverOk = 4,
  kStatusFeaturesOk = 8,
  kStatusNeedsReset = 64,
  kStatusFailed = 128,
};

constexpr uint16_t kNoVector = 0xFFFF;

// What the two transports (4.1 PCI, 4.2 MMIO) have in common.
class VirtioTransport {
 public:
  virtual uint8_t status() const = 0;
  virtual void set_status(uint8_t status) const = 0;
  virtual uint64_t device_features() const = 0;
  virtual void set_driver_features(uint64_t features) const = 0;
  // Selects the queue; returns its greatest size, 0 if it does not exist.
  virtual uint16_t select_queue(uint16_t queue) const = 0;
  // Gives the selected queue its rings and its MSI-X vector (PCI only), and enables it.
  virtual void enable_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used,
                            uint16_t vector) const = 0;
  virtual void notify(uint16_t queue) const = 0;
  // Reads, and by that or by a second write clears, why the device interrupted (4.1.4.5, 4.2.2 InterruptACK).
  virtual uint32_t acknowledge_interrupt() const = 0;
  virtual uint32_t config32(uint32_t offset) const = 0;

 protected:
  ~VirtioTransport() = default;
};

class VirtioMmio final : public VirtioTransport {
 public:
  explicit VirtioMmio(uint64_t base) : base_{base} {}
  // Magic, version 2 and device id (4.2.2); id 0 is an empty slot.
  bool is(VirtioId id) const;

  uint8_t status() const override;
  void set_status(uint8_t status) const override;
  uint64_t device_features() const override;
  void set_driver_features(uint64_t features) const override;
  uint16_t select_queue(uint16_t queue) const override;
  void enable_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used,
                    uint16_t vector) const override;
  void notify(uint16_t queue) const override;
  uint32_t acknowledge_interrupt() const override;
  uint32_t config32(uint32_t offset) const override;

 private:
  uint64_t base_;
};

class VirtioPci final : public VirtioTransport {
 public:
  // Walks the vendor capabilities (4.1.4) and maps the BARs they name.
  explicit VirtioPci(const PciDevice& device);
  static constexpr uint16_t kVendor = 0x1AF4;
  static uint16_t device_id(VirtioId id) { return static_cast<uint16_t>(0x1040 + static_cast<uint32_t>(id)); }

  uint8_t status() const override;
  void set_status(uint8_t status) const override;
  uint64_t device_features() const override;
  void set_driver_features(uint64_t features) const override;
  uint16_t select_queue(uint16_t queue) const override;
  void enable_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used,
                    uint16_t vector) const override;
  void notify(uint16_t queue) const override;
  uint32_t acknowledge_interrupt() const override;
  uint32_t config32(uint32_t offset) const override;

 private:
  uint64_t common_ = 0;
  uint16_t notify_ = 0;  // a port
  uint32_t notify_multiplier_ = 0;
  uint64_t isr_ = 0;
  uint64_t config_ = 0;
};

// One buffer of a request: `device_writes` tells its direction.
struct VirtioBuffer {
  const void* data;
  uint32_t size;
  bool device_writes;
};

// A split queue as it lies in memory (2.7).
struct VirtioRings {
  static constexpr uint16_t kSize = 8;
  enum Flags : uint16_t { kNext = 1, kDeviceWrites = 2, kIndirect = 4 };
  struct Descriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags;
    uint16_t next;
  };
  struct UsedElement {
    uint32_t id;
    uint32_t size;
  };
  alignas(16) Descriptor descriptors[kSize];
  alignas(4) struct {
    uint16_t flags, index, ring[kSize];
  } available;
  alignas(4) struct {
    uint16_t flags, index;
    UsedElement ring[kSize];
  } used;
};

// Queue 0 of a device, one request in flight at a time.
class VirtioQueue {
 public:
  static constexpr uint16_t kSize = VirtioRings::kSize;

  // Runs the initialisation of 3.1.1 up to DRIVER_OK with VERSION_1 as the only feature; ends the run if the
  // device refuses.
  void start(const VirtioTransport& transport, uint16_t vector = kNoVector);
  // Puts one chain in the available ring and rings the doorbell.
  void submit(const VirtioBuffer* buffers, size_t count);
  // Whether the device has used the chain; if so how many bytes it wrote.
  bool done() const;
  uint32_t take();
  // submit() and a bounded wait by polling the used ring.
  uint32_t run(const VirtioBuffer* buffers, size_t count);

  // For those who mean to break it: the rings, and the last step of submit(), `count` entries at once.
  VirtioRings& rings() { return rings_; }
  void publish(uint16_t count = 1);

 private:
  VirtioRings rings_;
  uint16_t taken_ = 0;
  const VirtioTransport* transport_ = nullptr;
};

// The MMIO device with this id: from "virtio_mmio.device=SIZE@BASE:IRQ" on the command line (4.2.1; the Linux
// kernel's parameter), or, where there is none, in the slots of 4 KiB from 0xFEB00000. The base, or 0.
uint64_t find_virtio_mmio(VirtioId id, const char* command_line);

}  // namespace payload
