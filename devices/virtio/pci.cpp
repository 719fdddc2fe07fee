// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/pci.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

namespace vmm::virtio {
namespace {

constexpr uint64_t kPage = 0x1000;
constexpr uint8_t kVendorCapability = 0x09;
constexpr uint64_t kWindowData = offsetof(virtio_pci_cfg_cap, pci_cfg_data);

// PCI class codes; virtio leaves them to the device (4.1.2).
uint32_t class_code(uint16_t type) {
  switch (type) {
    case VIRTIO_ID_NET:
      return 0x020000;  // Ethernet controller
    case VIRTIO_ID_BLOCK:
      return 0x018000;  // mass storage, other
    case VIRTIO_ID_CONSOLE:
      return 0x078000;  // communication, other
    case VIRTIO_ID_VSOCK:
      return 0x028000;  // network, other
    default:
      return 0x00ff00;  // unclassified
  }
}

pci::Identity identity(uint16_t type) {
  return {.vendor = 0x1af4,
          .device = static_cast<uint16_t>(0x1040 + type),  // 4.1.2
          .revision = 1,                                   // not transitional (4.1.2.1)
          .class_code = class_code(type),
          .subsystem_vendor = 0x1af4,
          .subsystem = 0x1100};
}

// The width of the field of the common configuration that begins at `offset`; 0 where none does.
size_t field_width(uint64_t offset) {
  switch (offset) {
    case VIRTIO_PCI_COMMON_STATUS:
    case VIRTIO_PCI_COMMON_CFGGENERATION:
      return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_NUMQ:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
    case VIRTIO_PCI_COMMON_Q_NOFF:
      return 2;
    default:
      return offset % 4 == 0 && offset < sizeof(virtio_pci_common_cfg) ? 4 : 0;
  }
}

bool is_64bit_field(uint64_t offset) {
  return offset == VIRTIO_PCI_COMMON_Q_DESCLO || offset == VIRTIO_PCI_COMMON_Q_AVAILLO ||
         offset == VIRTIO_PCI_COMMON_Q_USEDLO;
}

// Calls `access(field, bytes)` for the field or the two halves that an access means, if it means any.
template <typename Bytes, typename Access>
void for_each_field(uint64_t offset, Bytes bytes, Access access) {
  if (bytes.size() == 8 && is_64bit_field(offset)) {
    access(offset, bytes.first(4));
    access(offset + 4, bytes.subspan(4));
  } else if (!bytes.empty() && bytes.size() == field_width(offset)) {
    access(offset, bytes);
  }
}

uint64_t round_up(uint64_t value, uint64_t to) {
  return (value + to - 1) / to * to;
}

}  // namespace

Result<std::unique_ptr<PciTransport>> PciTransport::create(Device& device, const GuestMemory& memory,
                                                           pci::RootBus& bus, MsiSink& msi) {
  VMM_TRY_ASSIGN(const auto slot, bus.take_slot());
  std::unique_ptr<PciTransport> transport{new PciTransport{device, slot, msi}};
  VMM_TRY_ASSIGN(transport->core_, TransportCore::create(device, memory, transport->interrupts_));
  VMM_TRY(transport->build());
  bus.plug(slot, *transport);
  return transport;
}

PciTransport::PciTransport(Device& device, const pci::Slot& slot, MsiSink& msi)
    : device_(device),
      slot_(slot),
      msix_(msi, static_cast<uint16_t>(device.queue_sizes().size() + 1), std::string{device.name()}),
      endpoint_(std::string{device.name()}, slot, identity(device.type())),
      interrupts_(device.queue_sizes().size(), msix_, endpoint_.intx()) {
  assert(msix_.vectors() * pci::Msix::kEntrySize <= kPage && device.config_size() <= kPage);
}

Result<void> PciTransport::build() {
  VMM_TRY(endpoint_.add_bar(kBar, pci::Endpoint::BarKind::memory64, kBarSize, registers_));
  const uint32_t doorbells = core_->queue_count() * kNotifyMultiplier;
  VMM_TRY(endpoint_.add_bar(kNotifyBar, pci::Endpoint::BarKind::io, std::bit_ceil(doorbells), ports_));
  // What does nothing but set up what a write to the status puts into use.
  endpoint_.bar(kBar).add_coalesced(kCommon, VIRTIO_PCI_COMMON_STATUS);
  endpoint_.bar(kBar).add_coalesced(kCommon + VIRTIO_PCI_COMMON_Q_SELECT,
                                    sizeof(virtio_pci_common_cfg) - VIRTIO_PCI_COMMON_Q_SELECT);
  // The list is read from its last addition on.
  endpoint_.add_msix(msix_, {.bar = kBar, .table = kMsixTable, .pending_bits = kMsixPending});

  virtio_pci_cfg_cap window{};
  window.cap.cap_len = sizeof(window);
  window.cap.cfg_type = VIRTIO_PCI_CAP_PCI_CFG;
  virtio_pci_cfg_cap writable{};
  writable.cap.bar = 0xff;
  writable.cap.offset = ~0U;
  writable.cap.length = ~0U;
  std::memset(writable.pci_cfg_data, 0xff, sizeof(writable.pci_cfg_data));
  window_capability_ =
      endpoint_.add_capability(kVendorCapability, std::as_bytes(std::span{&window, 1}).subspan(2),
                               std::as_bytes(std::span{&writable, 1}).subspan(2));

  if (device_.config_size() != 0) {
    add_capability(VIRTIO_PCI_CAP_DEVICE_CFG, kDevice, round_up(device_.config_size(), 4));
  }
  add_capability(VIRTIO_PCI_CAP_ISR_CFG, kIsr, 1);

  virtio_pci_notify_cap notify{};
  notify.cap.cap_len = sizeof(notify);
  notify.cap.cfg_type = VIRTIO_PCI_CAP_NOTIFY_CFG;
  notify.cap.bar = kNotifyBar;
  notify.cap.length = doorbells;
  notify.notify_off_multiplier = kNotifyMultiplier;
  endpoint_.add_capability(kVendorCapability, std::as_bytes(std::span{&notify, 1}).subspan(2));

  add_capability(VIRTIO_PCI_CAP_COMMON_CFG, kCommon, sizeof(virtio_pci_common_cfg));
  endpoint_.power_on();
  return {};
}

void PciTransport::add_capability(uint8_t type, uint64_t offset, uint64_t length) {
  virtio_pci_cap capability{};
  capability.cap_len = sizeof(capability);
  capability.cfg_type = type;
  capability.bar = kBar;
  capability.offset = static_cast<uint32_t>(offset);
  capability.length = static_cast<uint32_t>(length);
  endpoint_.add_capability(kVendorCapability, std::as_bytes(std::span{&capability, 1}).subspan(2));
}

void PciTransport::read_config(uint16_t offset, std::span<std::byte> out) {
  if (touches_window(offset, out.size())) {
    if (const auto at = window()) {
      std::array<std::byte, 4> data;
      data.fill(std::byte{0xff});
      const auto bytes = std::span{data}.first(at->length);
      at->bar.read(at->offset, bytes);
      endpoint_.write_config(static_cast<uint16_t>(window_capability_ + kWindowData), bytes);
    }
  }
  endpoint_.read_config(offset, out);
}

void PciTransport::write_config(uint16_t offset, std::span<const std::byte> in) {
  endpoint_.write_config(offset, in);
  const auto at = window();
  if (at && stale_) stale_();  // the window's data register now does something when read
  if (!touches_window(offset, in.size())) return;
  if (at) {
    std::array<std::byte, 4> data{};
    endpoint_.read_config(static_cast<uint16_t>(window_capability_ + kWindowData), data);
    at->bar.write(at->offset, std::span{data}.first(at->length));
  }
}

pci::Function& PciTransport::plain_registers(std::function<void()> stale) {
  stale_ = stale;
  return endpoint_.plain_registers(std::move(stale));
}

void PciTransport::reset() {
  core_->reset();
  settle_doorbells();
  endpoint_.reset();
}

bool PciTransport::touches_window(uint16_t offset, size_t size) const {
  const uint64_t data = window_capability_ + kWindowData;
  return offset < data + 4 && offset + size > data;
}

// No lock of the endpoint is held while the window is used: a status write behind it may wait for the loop.
std::optional<PciTransport::Window> PciTransport::window() {
  virtio_pci_cap capability{};
  endpoint_.read_config(window_capability_, std::as_writable_bytes(std::span{&capability, 1}));
  const uint64_t offset = capability.offset;
  const uint32_t length = capability.length;
  if (capability.bar != kBar && capability.bar != kNotifyBar) return std::nullopt;
  const bool sane = (length == 1 || length == 2 || length == 4) && offset % length == 0 &&
                    offset < endpoint_.bar(capability.bar).size();
  if (!sane) return std::nullopt;
  if (capability.bar == kBar) return Window{.bar = registers_, .offset = offset, .length = length};
  return Window{.bar = ports_, .offset = offset, .length = length};
}

void PciTransport::settle_doorbells() {
  const std::lock_guard lock{doorbells_mutex_};
  const bool wanted = (core_->status() & VIRTIO_CONFIG_S_DRIVER_OK) != 0;
  if (wanted == doorbells_bound_) return;
  doorbells_bound_ = wanted;
  for (uint16_t queue = 0; queue < core_->queue_count(); ++queue) {
    const uint64_t offset = queue * uint64_t{kNotifyMultiplier};
    if (wanted) {
      endpoint_.bar(kNotifyBar).add_doorbell(offset, 0, core_->doorbell(queue));
    } else {
      endpoint_.bar(kNotifyBar).remove_doorbell(offset, core_->doorbell(queue));
    }
  }
}

void PciTransport::Registers::read(uint64_t offset, std::span<std::byte> out) {
  const uint64_t at = offset % kPage;
  switch (offset - at) {
    case kCommon:
      return for_each_field(at, out, [this](uint64_t field, std::span<std::byte> bytes) {
        const uint32_t value = transport_.read_common(field);
        std::memcpy(bytes.data(), &value, bytes.size());
      });
    case kIsr:
      if (at == 0) out[0] = std::byte{transport_.interrupts_.take_status()};
      return;
    case kDevice:
      return transport_.core_->read_config(at, out);
    case kMsixTable:
      return transport_.msix_.table().read(at, out);
    case kMsixPending:
      return transport_.msix_.pending_bits().read(at, out);
    default:
      return;
  }
}

void PciTransport::Registers::write(uint64_t offset, std::span<const std::byte> in) {
  const uint64_t at = offset % kPage;
  switch (offset - at) {
    case kCommon:
      return for_each_field(at, in, [this](uint64_t field, std::span<const std::byte> bytes) {
        uint32_t value = 0;
        std::memcpy(&value, bytes.data(), bytes.size());
        transport_.write_common(field, value);
      });
    case kDevice:
      return transport_.core_->write_config(at, in);
    case kMsixTable:
      return transport_.msix_.table().write(at, in);
    default:
      return;
  }
}

// What the kernel did not take: the host refused the doorbell, or the write came through PCI_CFG.
void PciTransport::Doorbells::write(uint64_t offset, std::span<const std::byte> /*in*/) {
  if (offset % kNotifyMultiplier == 0) {
    transport_.core_->notify(static_cast<uint32_t>(offset / kNotifyMultiplier));
  }
}

uint32_t PciTransport::read_common(uint64_t offset) const {
  switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
      return core_->device_feature_select();
    case VIRTIO_PCI_COMMON_DF:
      return core_->device_features();
    case VIRTIO_PCI_COMMON_GFSELECT:
      return core_->driver_feature_select();
    case VIRTIO_PCI_COMMON_GF:
      return core_->driver_features();
    case VIRTIO_PCI_COMMON_MSIX:
      return interrupts_.config_vector();
    case VIRTIO_PCI_COMMON_NUMQ:
      return core_->queue_count();
    case VIRTIO_PCI_COMMON_STATUS:
      return core_->status();
    case VIRTIO_PCI_COMMON_CFGGENERATION:
      return core_->config_generation();
    case VIRTIO_PCI_COMMON_Q_SELECT:
      return core_->queue_select();
    case VIRTIO_PCI_COMMON_Q_SIZE:
      return core_->queue_size();
    case VIRTIO_PCI_COMMON_Q_MSIX:
      return interrupts_.queue_vector(core_->queue_select());
    case VIRTIO_PCI_COMMON_Q_ENABLE:
      return core_->queue_enabled() ? 1 : 0;
    case VIRTIO_PCI_COMMON_Q_NOFF:
      return core_->queue_max_size() != 0 ? core_->queue_select() : 0;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
      return core_->queue_address(QueuePart::descriptors, Half::low);
    case VIRTIO_PCI_COMMON_Q_DESCHI:
      return core_->queue_address(QueuePart::descriptors, Half::high);
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
      return core_->queue_address(QueuePart::available, Half::low);
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
      return core_->queue_address(QueuePart::available, Half::high);
    case VIRTIO_PCI_COMMON_Q_USEDLO:
      return core_->queue_address(QueuePart::used, Half::low);
    case VIRTIO_PCI_COMMON_Q_USEDHI:
      return core_->queue_address(QueuePart::used, Half::high);
    default:
      return ~0U;
  }
}

void PciTransport::write_common(uint64_t offset, uint32_t value) {
  switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
      return core_->set_device_feature_select(value);
    case VIRTIO_PCI_COMMON_GFSELECT:
      return core_->set_driver_feature_select(value);
    case VIRTIO_PCI_COMMON_GF:
      return core_->set_driver_features(value);
    case VIRTIO_PCI_COMMON_MSIX:
      return interrupts_.set_config_vector(value);
    case VIRTIO_PCI_COMMON_STATUS:
      core_->set_status(static_cast<uint8_t>(value));
      return settle_doorbells();
    case VIRTIO_PCI_COMMON_Q_SELECT:
      return core_->set_queue_select(value);
    case VIRTIO_PCI_COMMON_Q_SIZE:
      return core_->set_queue_size(value);
    case VIRTIO_PCI_COMMON_Q_MSIX:
      return interrupts_.set_queue_vector(core_->queue_select(), value);
    case VIRTIO_PCI_COMMON_Q_ENABLE:
      if (value == 1) core_->set_queue_enabled(true);  // 0 is not written (4.1.4.3.2)
      return;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
      return core_->set_queue_address(QueuePart::descriptors, Half::low, value);
    case VIRTIO_PCI_COMMON_Q_DESCHI:
      return core_->set_queue_address(QueuePart::descriptors, Half::high, value);
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
      return core_->set_queue_address(QueuePart::available, Half::low, value);
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
      return core_->set_queue_address(QueuePart::available, Half::high, value);
    case VIRTIO_PCI_COMMON_Q_USEDLO:
      return core_->set_queue_address(QueuePart::used, Half::low, value);
    case VIRTIO_PCI_COMMON_Q_USEDHI:
      return core_->set_queue_address(QueuePart::used, Half::high, value);
    default:
      return;
  }
}

}  // namespace vmm::virtio
