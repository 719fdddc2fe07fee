// SPDX-License-Identifier: Apache-2.0
#include "firmware/memory_map.h"

#include <algorithm>

#include "firmware/wire.h"

namespace vmm::firmware {

std::vector<MemoryRange> make_memory_map(const GuestMemory& memory, std::span<const MemoryRange> others) {
  // Layers, each over the one before it.
  std::vector<MemoryRange> layers;
  for (const auto& region : memory.regions()) {
    layers.push_back({region.base, region.mapping.size(), MemoryType::ram});
  }
  layers.push_back({Gpa{kConventionalEnd}, kOneMiB - kConventionalEnd, MemoryType::reserved});
  layers.insert(layers.end(), others.begin(), others.end());

  std::vector<uint64_t> edges;
  for (const auto& layer : layers) {
    edges.push_back(layer.base.raw);
    edges.push_back(layer.base.raw + layer.size);
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());

  // Between two neighbouring edges the top layer is the same everywhere.
  std::vector<MemoryRange> map;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    const uint64_t base = edges[i];
    const uint64_t end = edges[i + 1];
    const auto top = std::find_if(layers.rbegin(), layers.rend(), [&](const MemoryRange& layer) {
      return layer.base.raw <= base && end - layer.base.raw <= layer.size;
    });
    if (top == layers.rend()) continue;
    const bool continues =
        !map.empty() && map.back().type == top->type && map.back().base.raw + map.back().size == base;
    if (continues) {
      map.back().size += end - base;
    } else {
      map.push_back({Gpa{base}, end - base, top->type});
    }
  }
  return map;
}

bool is_ram(std::span<const MemoryRange> map, Gpa base, uint64_t size) {
  return std::any_of(map.begin(), map.end(), [&](const MemoryRange& range) {
    return range.type == MemoryType::ram && range.base <= base && base.raw - range.base.raw <= range.size &&
           size <= range.size - (base.raw - range.base.raw);
  });
}

Result<void> check_ram(std::span<const MemoryRange> map, Gpa base, uint64_t size, std::string_view name) {
  if (is_ram(map, base, size)) return {};
  constexpr uint64_t kFourGiB = 1ULL << 32;
  uint64_t low_ram_end = 0;
  for (const auto& range : map) {
    if (range.type == MemoryType::ram && range.base.raw < kFourGiB) low_ram_end = range.base.raw + range.size;
  }
  const auto end = base.plus(size);
  // Above the low RAM, and more of it would reach there.
  if (end && end->raw > low_ram_end && end->raw <= kMostLowRam) {
    return fail("{}: too little memory: it needs {} MiB, the machine has {}; use --memory {}M", name,
                mib_up(end->raw), low_ram_end >> 20, mib_up(end->raw));
  }
  return fail("{}: needs {} bytes of memory at {:#x}, where this machine has none to give", name, size,
              base.raw);
}

std::optional<Gpa> highest_fit(std::span<const MemoryRange> map, uint64_t size, Gpa lowest, Gpa end) {
  constexpr uint64_t kPage = 4096;
  std::optional<Gpa> best;
  for (const auto& range : map) {
    if (range.type != MemoryType::ram) continue;
    const uint64_t top = std::min(range.base.raw + range.size, end.raw);
    if (top < size) continue;
    const Gpa base{align_down(top - size, kPage)};
    if (base >= lowest && base >= range.base && (!best || base > *best)) best = base;
  }
  return best;
}

}  // namespace vmm::firmware
