// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/scratch.h"

#include <algorithm>
#include <bit>

namespace vmm::legacy {
namespace {

enum Direction : size_t { kReads = 0, kWrites = 4 };

// Widths that are no power of two, or above 8, have no counter.
void count(std::array<uint32_t, 8>& counters, Direction direction, size_t width) {
  if (width == 0 || width > 8 || !std::has_single_bit(width)) return;
  ++counters[direction + static_cast<size_t>(std::countr_zero(width))];
}

// The part of an access that lies inside `registers`; the bus promises its range, not the edge to the
// counters.
template <class Byte>
std::span<Byte> inside(std::span<Byte> registers, uint64_t offset, size_t size) {
  if (offset >= registers.size()) return {};
  return registers.subspan(offset, std::min(size, registers.size() - offset));
}

}  // namespace

void Scratch::reset() {
  const std::scoped_lock lock{mutex_};
  state_ = State{};
}

void Scratch::Ports::read(uint64_t offset, std::span<std::byte> out) {
  const std::scoped_lock lock{scratch_.mutex_};
  count(scratch_.state_.port_accesses, kReads, out.size());
  std::ranges::copy(inside<std::byte>(scratch_.state_.ports, offset, out.size()), out.begin());
}

void Scratch::Ports::write(uint64_t offset, std::span<const std::byte> in) {
  const std::scoped_lock lock{scratch_.mutex_};
  count(scratch_.state_.port_accesses, kWrites, in.size());
  const auto registers = inside<std::byte>(scratch_.state_.ports, offset, in.size());
  std::ranges::copy(in.first(registers.size()), registers.begin());
}

void Scratch::Page::read(uint64_t offset, std::span<std::byte> out) {
  const std::scoped_lock lock{scratch_.mutex_};
  State& state = scratch_.state_;
  if (offset >= kCountersOffset) {
    std::array<uint32_t, 16> both{};
    std::ranges::copy(state.port_accesses, both.begin());
    std::ranges::copy(state.page_accesses, both.begin() + 8);
    static_assert(std::endian::native == std::endian::little);
    std::ranges::copy(
        inside<const std::byte>(std::as_bytes(std::span{both}), offset - kCountersOffset, out.size()),
        out.begin());
    return;
  }
  count(state.page_accesses, kReads, out.size());
  std::ranges::copy(inside<std::byte>(state.page, offset, out.size()), out.begin());
}

void Scratch::Page::write(uint64_t offset, std::span<const std::byte> in) {
  const std::scoped_lock lock{scratch_.mutex_};
  State& state = scratch_.state_;
  if (offset >= kCountersOffset) {
    state.port_accesses = {};
    state.page_accesses = {};
    return;
  }
  count(state.page_accesses, kWrites, in.size());
  const auto registers = inside<std::byte>(state.page, offset, in.size());
  std::ranges::copy(in.first(registers.size()), registers.begin());
}

}  // namespace vmm::legacy
