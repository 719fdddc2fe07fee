// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/msix.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace vmm::pci {

Msix::Msix(MsiSink& sink, uint16_t vectors, std::string name)
    : sink_(sink), name_(std::move(name)), vectors_(vectors) {
  assert(vectors >= 1 && vectors <= kMaxVectors);
}

bool Msix::enabled() const {
  const std::lock_guard lock{mutex_};
  return enabled_;
}

void Msix::signal(uint16_t vector) {
  signal_from(vector, nullptr);
}

void Msix::signal_with(uint16_t vector, EventLoop& loop) {
  signal_from(vector, &loop);
}

void Msix::signal_from(uint16_t vector, EventLoop* loop) {
  const std::lock_guard lock{mutex_};
  if (!enabled_ || vector >= vectors_.size()) return;
  vectors_[vector].pending = true;
  settle(vectors_[vector], loop);
}

void Msix::connect(uint16_t vector, const EventFd& bell) {
  const std::lock_guard lock{mutex_};
  if (vector >= vectors_.size()) return;
  vectors_[vector].bells.push_back({.bell = &bell});
  settle(vectors_[vector]);
}

void Msix::disconnect(uint16_t vector, const EventFd& bell) {
  const std::lock_guard lock{mutex_};
  if (vector >= vectors_.size()) return;
  auto& bells = vectors_[vector].bells;
  const auto found = std::ranges::find(bells, &bell, &Bell::bell);
  if (found == bells.end()) return;
  want(vectors_[vector], *found, false);
  bells.erase(found);
}

void Msix::want(Vector& vector, Bell& bell, bool wanted) {
  if (std::exchange(bell.wanted, wanted) == wanted) return;
  if (bell.connected) vector.wire->disconnect(*bell.bell);
  bell.connected = wanted && vector.wire->connect(*bell.bell);
}

void Msix::set_control(bool enabled, bool masked) {
  const std::lock_guard lock{mutex_};
  if (enabled_ && !enabled) {
    for (auto& vector : vectors_) vector.pending = false;
  }
  enabled_ = enabled;
  masked_ = masked;
  std::ranges::for_each(vectors_, [this](Vector& vector) { settle(vector); });
}

void Msix::reset() {
  const std::lock_guard lock{mutex_};
  enabled_ = false;
  masked_ = false;
  for (auto& vector : vectors_) {
    vector.entry = Entry{};
    vector.pending = false;
    settle(vector);
  }
}

bool Msix::open(const Vector& vector) const {
  return enabled_ && !masked_ && (vector.entry.control & 1) == 0;
}

// After any change: an open vector has the route its entry names, its bells, and nothing pending.
void Msix::settle(Vector& vector, EventLoop* loop) {
  if (open(vector)) route(vector);
  for (auto& bell : vector.bells) want(vector, bell, open(vector) && !vector.silent);
  if (!open(vector)) return;
  if (!std::exchange(vector.pending, false) || vector.silent) return;
  if (loop != nullptr) {
    vector.wire->signal_with(*loop);
  } else {
    vector.wire->signal();
  }
}

void Msix::route(Vector& vector) {
  const MsiMessage message{.address = vector.entry.address_low | (uint64_t{vector.entry.address_high} << 32),
                           .data = vector.entry.data};
  if (vector.routed == message) return;
  vector.routed = message;
  auto result = Result<void>{};
  if (!vector.wire) {
    if (auto wire = sink_.create_vector(); wire) {
      vector.wire = std::move(*wire);
    } else {
      result = tl::unexpected(std::move(wire.error()));
    }
  }
  if (result) result = vector.wire->route(message);
  vector.silent = !result;
  if (vector.silent && refused_.pass()) {
    log(LogLevel::warning, "{}: MSI-X message {:#x} to {:#x}: {}, this vector is silent", name_, message.data,
        message.address, result.error().message);
  }
}

void Msix::Table::read(uint64_t offset, std::span<std::byte> out) {
  const std::lock_guard lock{msix_.mutex_};
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t at = offset + i;
    const uint64_t index = at / kEntrySize;
    out[i] = std::byte{0};
    if (index >= msix_.vectors_.size()) continue;
    out[i] = std::as_bytes(std::span{&msix_.vectors_[index].entry, 1})[at % kEntrySize];
  }
}

void Msix::Table::write(uint64_t offset, std::span<const std::byte> in) {
  if ((in.size() != 4 && in.size() != 8) || offset % in.size() != 0) return;
  const std::lock_guard lock{msix_.mutex_};
  for (size_t i = 0; i < in.size(); i += 4) {
    uint32_t value = 0;
    std::memcpy(&value, in.data() + i, sizeof(value));
    msix_.write_dword(offset + i, value);
  }
  if (offset / kEntrySize < msix_.vectors_.size()) msix_.settle(msix_.vectors_[offset / kEntrySize]);
}

void Msix::write_dword(uint64_t offset, uint32_t value) {
  const uint64_t index = offset / kEntrySize;
  if (index >= vectors_.size()) return;
  auto& entry = vectors_[index].entry;
  switch (offset % kEntrySize) {
    case 0:
      entry.address_low = value & ~3U;
      return;
    case 4:
      entry.address_high = value;
      return;
    case 8:
      entry.data = value;
      return;
    default:
      entry.control = value & 1U;
      return;
  }
}

void Msix::PendingBits::read(uint64_t offset, std::span<std::byte> out) {
  const std::lock_guard lock{msix_.mutex_};
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::byte{0};
    for (uint64_t bit = 0; bit < 8; ++bit) {
      const uint64_t vector = (offset + i) * 8 + bit;
      if (vector < msix_.vectors_.size() && msix_.vectors_[vector].pending) out[i] |= std::byte{1} << bit;
    }
  }
}

}  // namespace vmm::pci
