// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/bar_space.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace vmm::pci {

Result<uint64_t> BarSpace::allocate(uint64_t size) {
  assert(std::has_single_bit(size));
  const std::lock_guard lock{mutex_};
  uint64_t base = 0;
  const bool wraps = __builtin_add_overflow(next_free_, size - 1, &base);
  base &= ~(size - 1);
  if (wraps || !inside(base, size)) {
    return fail("place a PCI BAR of {:#x} bytes: the window at {:#x} is full, use fewer devices", size,
                window_.base);
  }
  next_free_ = base + size;
  return base;
}

bool BarSpace::inside(uint64_t base, uint64_t size) const {
  if (base < window_.base) return false;
  const uint64_t offset = base - window_.base;
  return offset <= window_.size && size <= window_.size - offset;
}

void BarSpace::map(BarRegion& region) {
  const uint64_t base = *region.wanted_;
  if (!inside(base, region.size_) || !bus_.map(base, region.size_, region.handler_, region.name_)) return;
  region.mapped_ = base;
  for (auto& doorbell : region.doorbells_) bind(region, doorbell);
  for (const auto& [offset, size] : region.coalesced_) doorbells_.coalesce(Gpa{base + offset}, size);
}

void BarSpace::unmap(BarRegion& region) {
  if (!region.mapped_) return;
  for (auto& doorbell : region.doorbells_) unbind(doorbell);
  for (const auto& [offset, size] : region.coalesced_) {
    doorbells_.uncoalesce(Gpa{*region.mapped_ + offset}, size);
  }
  bus_.unmap(*std::exchange(region.mapped_, std::nullopt));
}

void BarSpace::map_waiting() {
  for (BarRegion* region : regions_) {
    if (region->wanted_ && !region->mapped_) map(*region);
  }
}

void BarSpace::bind(const BarRegion& region, BarDoorbell& doorbell) {
  const DoorbellAddress address{.space = kind_,
                                .address = *region.mapped_ + doorbell.offset,
                                .length = doorbell.length,
                                .match = std::nullopt};
  if (const auto bound = doorbells_.bind(address, doorbell.event_fd); bound) {
    doorbell.bound = address;
  } else if (unbound_.pass()) {
    log(LogLevel::warning, "{}: {}, its doorbells ring by way of user space", region.name_,
        bound.error().message);
  }
}

void BarSpace::unbind(BarDoorbell& doorbell) {
  if (doorbell.bound) doorbells_.unbind(*std::exchange(doorbell.bound, std::nullopt), doorbell.event_fd);
}

BarRegion::BarRegion(BarSpace& space, IoHandler& handler, uint64_t size, std::string name)
    : space_(space), handler_(handler), size_(size), name_(std::move(name)) {
  assert(std::has_single_bit(size) && size >= (space.kind_ == BarSpace::Kind::mmio ? 4096U : 4U));
  const std::lock_guard lock{space_.mutex_};
  space_.regions_.push_back(this);
}

BarRegion::~BarRegion() {
  const std::lock_guard lock{space_.mutex_};
  space_.unmap(*this);
  std::erase(space_.regions_, this);
}

void BarRegion::decode_at(std::optional<uint64_t> base, Refusal refusal) {
  const std::lock_guard lock{space_.mutex_};
  if (base == wanted_) return;
  space_.unmap(*this);
  wanted_ = base;
  if (wanted_) space_.map(*this);
  space_.map_waiting();
  if (wanted_ && !mapped_ && refusal == Refusal::counted && space_.refused_.pass()) {
    log(LogLevel::warning,
        "{}: BAR at {:#x} is outside the PCI window or taken, not decoded until it is moved", name_,
        *wanted_);
  }
}

std::optional<uint64_t> BarRegion::decoded_at() const {
  const std::lock_guard lock{space_.mutex_};
  return mapped_;
}

void BarRegion::add_doorbell(uint64_t offset, uint32_t length, int event_fd) {
  assert(offset < size_ && length <= size_ - offset);
  const std::lock_guard lock{space_.mutex_};
  auto& doorbell = doorbells_.emplace_back(BarDoorbell{offset, length, event_fd, std::nullopt});
  if (mapped_) space_.bind(*this, doorbell);
}

void BarRegion::add_coalesced(uint64_t offset, uint64_t size) {
  assert(offset < size_ && size <= size_ - offset);
  const std::lock_guard lock{space_.mutex_};
  assert(!mapped_ && space_.kind_ == BarSpace::Kind::mmio);
  coalesced_.emplace_back(offset, size);
}

void BarRegion::remove_doorbell(uint64_t offset, int event_fd) {
  const std::lock_guard lock{space_.mutex_};
  const auto doorbell = std::ranges::find_if(
      doorbells_, [&](const BarDoorbell& d) { return d.offset == offset && d.event_fd == event_fd; });
  if (doorbell == doorbells_.end()) return;
  space_.unbind(*doorbell);
  doorbells_.erase(doorbell);
}

}  // namespace vmm::pci
