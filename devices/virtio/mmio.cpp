// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/mmio.h"

#include <linux/virtio_mmio.h>

#include <cstring>

namespace vmm::virtio {
namespace {

constexpr uint32_t kMagic = 0x74726976;      // "virt"
constexpr uint32_t kVersion = 2;             // 1 is the legacy layout
constexpr uint32_t kVendor = 0x204D'4D56;    // "VMM "
constexpr uint32_t kNoRegion = 0xFFFF'FFFF;  // length and base of a shared memory region that does not exist
constexpr uint32_t kConfig = VIRTIO_MMIO_CONFIG;

// Registers whose writes do nothing but set up what a write to Status puts into use: features, and queues.
struct Registers {
  uint64_t from;
  uint64_t end;
};
constexpr Registers kSetUp[] = {{VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DRIVER_FEATURES_SEL + 4},
                                {VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_READY + 4},
                                {VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH + 4}};

}  // namespace

void MmioTransport::Interrupts::raise_queue(uint16_t /*queue*/, EventLoop& loop) {
  status_.fetch_or(VIRTIO_MMIO_INT_VRING);
  irq_.pulse_with(loop);
}

void MmioTransport::Interrupts::raise_config() {
  status_.fetch_or(VIRTIO_MMIO_INT_CONFIG);
  irq_.pulse();
}

MmioTransport::MmioTransport(IrqLine& irq, DoorbellSink& doorbells, Gpa base)
    : base_(base), doorbells_(doorbells), interrupts_(irq) {
  for (const auto& [from, end] : kSetUp) doorbells_.coalesce(Gpa{base.raw + from}, end - from);
}

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(Device& device, const GuestMemory& memory,
                                                             IrqLine& irq, DoorbellSink& doorbells,
                                                             Gpa base) {
  std::unique_ptr<MmioTransport> transport{new MmioTransport{irq, doorbells, base}};
  VMM_TRY_ASSIGN(transport->core_, TransportCore::create(device, memory, transport->interrupts_));
  auto& core = *transport->core_;
  for (; transport->bound_ < core.queue_count(); ++transport->bound_) {
    const uint16_t queue = transport->bound_;
    VMM_TRY(doorbells.bind(transport->doorbell_address(queue), core.doorbell(queue)));
  }
  return transport;
}

MmioTransport::~MmioTransport() {
  for (uint16_t queue = 0; queue < bound_; ++queue) {
    doorbells_.unbind(doorbell_address(queue), core_->doorbell(queue));
  }
  for (const auto& [from, end] : kSetUp) doorbells_.uncoalesce(Gpa{base_.raw + from}, end - from);
}

DoorbellAddress MmioTransport::doorbell_address(uint16_t queue) const {
  return {.space = DoorbellAddress::Space::mmio,
          .address = base_.raw + VIRTIO_MMIO_QUEUE_NOTIFY,
          .length = 4,
          .match = queue};
}

void MmioTransport::read(uint64_t offset, std::span<std::byte> out) {
  if (offset >= kConfig) return core_->read_config(offset - kConfig, out);
  if (out.size() != 4 || offset % 4 != 0) return;
  if (const auto value = read_register(offset)) std::memcpy(out.data(), &*value, sizeof *value);
}

void MmioTransport::write(uint64_t offset, std::span<const std::byte> in) {
  if (offset >= kConfig) return core_->write_config(offset - kConfig, in);
  if (in.size() != 4 || offset % 4 != 0) return;
  uint32_t value = 0;
  std::memcpy(&value, in.data(), sizeof value);
  write_register(offset, value);
}

// None for registers that are write-only, or are not there.
std::optional<uint32_t> MmioTransport::read_register(uint64_t offset) const {
  switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
      return kMagic;
    case VIRTIO_MMIO_VERSION:
      return kVersion;
    case VIRTIO_MMIO_DEVICE_ID:
      return core_->device().type();
    case VIRTIO_MMIO_VENDOR_ID:
      return kVendor;
    case VIRTIO_MMIO_DEVICE_FEATURES:
      return core_->device_features();
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
      return core_->queue_max_size();
    case VIRTIO_MMIO_QUEUE_READY:
      return core_->queue_enabled() ? 1 : 0;
    case VIRTIO_MMIO_INTERRUPT_STATUS:
      return interrupts_.status();
    case VIRTIO_MMIO_STATUS:
      return core_->status();
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
      return kNoRegion;
    case VIRTIO_MMIO_CONFIG_GENERATION:
      return core_->config_generation();
    default:
      return std::nullopt;
  }
}

void MmioTransport::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
      return core_->set_device_feature_select(value);
    case VIRTIO_MMIO_DRIVER_FEATURES:
      return core_->set_driver_features(value);
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
      return core_->set_driver_feature_select(value);
    case VIRTIO_MMIO_QUEUE_SEL:
      return core_->set_queue_select(value);
    case VIRTIO_MMIO_QUEUE_NUM:
      return core_->set_queue_size(value);
    case VIRTIO_MMIO_QUEUE_READY:
      return core_->set_queue_enabled((value & 1) != 0);
    case VIRTIO_MMIO_QUEUE_NOTIFY:  // only where the doorbell did not take it
      return core_->notify(value);
    case VIRTIO_MMIO_INTERRUPT_ACK:
      return interrupts_.acknowledge(value);
    case VIRTIO_MMIO_STATUS:
      if (value > 0xFF) return;  // cut to eight bits it could be a reset that nobody asked for
      return core_->set_status(static_cast<uint8_t>(value));
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
      return core_->set_queue_address(QueuePart::descriptors, Half::low, value);
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
      return core_->set_queue_address(QueuePart::descriptors, Half::high, value);
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
      return core_->set_queue_address(QueuePart::available, Half::low, value);
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
      return core_->set_queue_address(QueuePart::available, Half::high, value);
    case VIRTIO_MMIO_QUEUE_USED_LOW:
      return core_->set_queue_address(QueuePart::used, Half::low, value);
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
      return core_->set_queue_address(QueuePart::used, Half::high, value);
    default:
      return;
  }
}

}  // namespace vmm::virtio
