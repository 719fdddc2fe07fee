// SPDX-License-Identifier: Apache-2.0
//
// The guest's physical address map as firmware reports it (ACPI 6.5, 15: INT 15h E820h). One vector of ranges
// is what boot_params, PVH and Multiboot each write in their own form, and what the loaders place things by.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::firmware {

// The values are those of E820 (ACPI 6.5, table 15.4).
enum class MemoryType : uint32_t { ram = 1, reserved = 2, acpi_tables = 3, acpi_nvs = 4 };

struct MemoryRange {
  Gpa base;
  uint64_t size = 0;  // bytes; base + size does not wrap
  MemoryType type = MemoryType::ram;
  friend bool operator==(const MemoryRange&, const MemoryRange&) = default;
};

// A PC's conventional memory ends here; the kilobyte above it is where BIOSes keep the extended BIOS data
// area.
inline constexpr uint64_t kConventionalEnd = 0x9fc00;
inline constexpr uint64_t kOneMiB = 0x100000;
// More RAM than this does not raise the end of what lies below 4 GiB: devices come first.
inline constexpr uint64_t kMostLowRam = 3ULL << 30;

// The map of a machine with this RAM: its regions, the PC's hole from kConventionalEnd to 1 MiB reserved, and
// `others` (ECAM, firmware tables, …) over both, the last one winning where they overlap. Sorted, and apart.
[[nodiscard]] std::vector<MemoryRange> make_memory_map(const GuestMemory& memory,
                                                       std::span<const MemoryRange> others);

// Whether [base, base + size) is RAM in `map`, all of it in one range.
[[nodiscard]] bool is_ram(std::span<const MemoryRange> map, Gpa base, uint64_t size);

// The same as an answer to the user: `name` needs this range, and what to do if it is not there.
Result<void> check_ram(std::span<const MemoryRange> map, Gpa base, uint64_t size, std::string_view name);

// The highest page-aligned address at which `size` bytes of RAM lie at or above `lowest` and wholly below
// `end`.
[[nodiscard]] std::optional<Gpa> highest_fit(std::span<const MemoryRange> map, uint64_t size, Gpa lowest,
                                             Gpa end);

}  // namespace vmm::firmware
