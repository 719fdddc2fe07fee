// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/bus.h"

#include <algorithm>
#include <mutex>

namespace vmm {

Result<void> Bus::map(uint64_t base, uint64_t size, IoHandler& handler, std::string_view name) {
  uint64_t last = 0;
  if (size == 0 || __builtin_add_overflow(base, size - 1, &last)) {
    return fail("map {} at {:#x}: the range is empty or wraps", name, base);
  }
  const std::unique_lock lock{mutex_};
  auto next = ranges_.lower_bound(base);
  const bool hits_next = next != ranges_.end() && next->first <= last;
  const bool hits_previous =
      next != ranges_.begin() && std::prev(next)->first + (std::prev(next)->second.size - 1) >= base;
  if (hits_next || hits_previous) {
    return fail("map {} at {:#x}..{:#x}: the range is taken by {}", name, base, last,
                hits_next ? next->second.counters->name : std::prev(next)->second.counters->name);
  }
  auto counters = std::ranges::find(counters_, name, &Counters::name);
  if (counters == counters_.end()) {
    counters_.emplace_back().name = name;
    counters = std::prev(counters_.end());
  }
  ranges_.emplace_hint(next, base, Range{size, &handler, &*counters});
  return {};
}

void Bus::unmap(uint64_t base) {
  const std::unique_lock lock{mutex_};
  ranges_.erase(base);
}

Bus::Target Bus::find(uint64_t address, uint64_t length) const {
  const std::shared_lock lock{mutex_};
  auto after = ranges_.upper_bound(address);
  if (after == ranges_.begin()) return {nullptr, 0, &unmapped_};
  const auto& [base, range] = *std::prev(after);
  const uint64_t offset = address - base;
  if (offset >= range.size || length > range.size - offset) return {nullptr, 0, &unmapped_};
  return {range.handler, offset, range.counters};
}

void Bus::read(uint64_t address, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0xff});
  const auto target = find(address, out.size());
  target.counters->reads.fetch_add(1, std::memory_order_relaxed);
  if (target.handler != nullptr) target.handler->read(target.offset, out);
}

void Bus::write(uint64_t address, std::span<const std::byte> in) {
  const auto target = find(address, in.size());
  target.counters->writes.fetch_add(1, std::memory_order_relaxed);
  if (target.handler != nullptr) target.handler->write(target.offset, in);
}

Bus::Resident Bus::resident(uint64_t address) const {
  const auto target = find(address, 1);
  return {target.counters->name, target.handler != nullptr ? target.offset : address};
}

std::vector<Bus::Counts> Bus::counts() const {
  const std::shared_lock lock{mutex_};
  std::vector<Counts> all;
  const auto add = [&all](const Counters& c) {
    all.push_back(
        {c.name, c.reads.load(std::memory_order_relaxed), c.writes.load(std::memory_order_relaxed)});
  };
  std::ranges::for_each(counters_, add);
  add(unmapped_);
  return all;
}

}  // namespace vmm
