// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/endpoint.h"

#include <cassert>
#include <cstring>
#include <utility>

namespace vmm::pci {
namespace {

constexpr size_t bar_register(uint8_t index) {
  return kBar0 + size_t{index} * 4;
}

// What a BAR begins with (PCI 3.0, 6.2.5.1): which space, and of memory the type and whether prefetchable.
constexpr uint32_t kBarIo = 1U << 0;
constexpr uint32_t kBarType64 = 2U << 1;

constexpr uint32_t bar_flags(Endpoint::BarKind kind) {
  switch (kind) {
    case Endpoint::BarKind::memory32:
      return 0;
    case Endpoint::BarKind::memory64:
      return kBarType64;
    case Endpoint::BarKind::io:
      return kBarIo;
  }
  return 0;
}

constexpr uint32_t flags_mask(Endpoint::BarKind kind) {
  return kind == Endpoint::BarKind::io ? 0x3 : 0xf;
}

}  // namespace

Endpoint::Endpoint(std::string name, const Slot& slot, const Identity& identity)
    : name_(std::move(name)),
      memory_(slot.memory),
      ports_(slot.ports),
      intx_(slot.wire),
      config_(identity),
      power_on_(identity) {
  config_.set<uint8_t>(kInterruptPin, 1);  // INTA#
  config_.set<uint8_t>(kInterruptLine, static_cast<uint8_t>(intx_gsi(slot.device).raw));
}

Result<void> Endpoint::add_bar(uint8_t index, BarKind kind, uint64_t size, IoHandler& handler) {
  assert(index + (kind == BarKind::memory64 ? 1 : 0) < kBars && !bars_[index].region);
  auto& bar = bars_[index];
  auto& space = kind == BarKind::io ? ports_ : memory_;
  VMM_TRY_ASSIGN(bar.power_on, space.allocate(size));
  bar.kind = kind;
  bar.region = std::make_unique<BarRegion>(space, handler, size, name_);
  const uint64_t mask = ~(size - 1);
  config_.set<uint32_t>(bar_register(index), bar_flags(kind));
  config_.set_writable<uint32_t>(bar_register(index), static_cast<uint32_t>(mask) & ~flags_mask(kind));
  if (kind == BarKind::memory64) {
    config_.set_writable<uint32_t>(bar_register(index) + 4, static_cast<uint32_t>(mask >> 32));
  }
  return {};
}

void Endpoint::add_msix(Msix& msix, const MsixPlace& place) {
  struct Body {  // after id and next (6.8.2)
    uint16_t control;
    uint32_t table;
    uint32_t pending_bits;
  } __attribute__((packed));
  static_assert(sizeof(Body) == 10);
  assert(place.table % 8 == 0 && place.pending_bits % 8 == 0);
  const Body body{.control = static_cast<uint16_t>(msix.vectors() - 1),
                  .table = place.table | place.bar,
                  .pending_bits = place.pending_bits | place.bar};
  const Body writable{.control = Msix::kControlEnable | Msix::kControlMask, .table = 0, .pending_bits = 0};
  msix_ = &msix;
  msix_capability_ = add_capability(Msix::kCapabilityId, std::as_bytes(std::span{&body, 1}),
                                    std::as_bytes(std::span{&writable, 1}));
}

void Endpoint::power_on() {
  const std::lock_guard lock{mutex_};
  for (uint8_t i = 0; i < kBars; ++i) {
    const auto& bar = bars_[i];
    if (!bar.region) continue;
    config_.set<uint32_t>(bar_register(i), static_cast<uint32_t>(bar.power_on) | bar_flags(bar.kind));
    if (bar.kind == BarKind::memory64) {
      config_.set<uint32_t>(bar_register(i) + 4, static_cast<uint32_t>(bar.power_on >> 32));
    }
  }
  power_on_ = config_;
  apply(BarRegion::Refusal::counted);
}

BarRegion& Endpoint::bar(uint8_t index) {
  assert(index < kBars && bars_[index].region);
  return *bars_[index].region;
}

void Endpoint::read_config(uint16_t offset, std::span<std::byte> out) {
  const std::lock_guard lock{mutex_};
  config_.read(offset, out);
  // The interrupt status bit mirrors the function, whether or not the pin may be driven (6.2.3).
  if (offset <= kStatus && offset + out.size() > kStatus && intx_.pending()) {
    out[kStatus - offset] |= std::byte{kStatusInterrupt};
  }
}

void Endpoint::write_config(uint16_t offset, std::span<const std::byte> in) {
  const std::lock_guard lock{mutex_};
  config_.write(offset, in);
  apply(BarRegion::Refusal::counted);
}

void Endpoint::reset() {
  const std::lock_guard lock{mutex_};
  config_ = power_on_;
  intx_.set_pending(false);
  if (msix_ != nullptr) msix_->reset();
  // Until its neighbours are reset, too, a BAR may find its place taken.
  apply(BarRegion::Refusal::expected);
}

void Endpoint::apply(BarRegion::Refusal refusal) {
  for (uint8_t i = 0; i < kBars; ++i) {
    if (bars_[i].region) apply_bar(i, refusal);
  }
  bool msix_enabled = false;
  if (msix_ != nullptr) {
    const auto control = config_.get<uint16_t>(msix_capability_ + 2U);
    msix_enabled = (control & Msix::kControlEnable) != 0;
    msix_->set_control(msix_enabled, (control & Msix::kControlMask) != 0);
  }
  intx_.set_enabled(!msix_enabled && (config_.get<uint16_t>(kCommand) & kCommandIntxDisable) == 0);
}

void Endpoint::apply_bar(uint8_t index, BarRegion::Refusal refusal) {
  auto& bar = bars_[index];
  const auto decoding = bar.kind == BarKind::io ? kCommandIo : kCommandMemory;
  if ((config_.get<uint16_t>(kCommand) & decoding) == 0) return bar.region->decode_at(std::nullopt, refusal);
  const uint32_t low = config_.get<uint32_t>(bar_register(index)) & ~flags_mask(bar.kind);
  uint64_t base = low;
  if (bar.kind == BarKind::memory64) base |= uint64_t{config_.get<uint32_t>(bar_register(index) + 4)} << 32;
  // All ones ask for the size (6.2.5.1); some guests do that with decoding on.
  if (low == static_cast<uint32_t>(~(bar.region->size() - 1))) refusal = BarRegion::Refusal::expected;
  bar.region->decode_at(base, refusal);
}

}  // namespace vmm::pci
