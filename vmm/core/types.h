// SPDX-License-Identifier: Apache-2.0
//
// The addresses a guest uses. Each is its own type, so that a guest-physical address is never mistaken for a
// length, a port or a host pointer. There is no operator+: adding to an address can wrap, and `plus` says so.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

namespace vmm {

// Guest-physical address, in bytes.
struct Gpa {
  uint64_t raw = 0;

  // The address `bytes` further on; none when the sum wraps 64 bits.
  [[nodiscard]] constexpr std::optional<Gpa> plus(uint64_t bytes) const {
    uint64_t sum = 0;
    if (__builtin_add_overflow(raw, bytes, &sum)) return std::nullopt;
    return Gpa{sum};
  }
  friend constexpr auto operator<=>(Gpa, Gpa) = default;
};

// x86 I/O port.
struct Port {
  uint16_t raw = 0;
  friend constexpr auto operator<=>(Port, Port) = default;
};

// Global system interrupt: the number of an interrupt input as ACPI counts them (ACPI 6.5, 5.2.13).
struct Gsi {
  uint32_t raw = 0;
  friend constexpr auto operator<=>(Gsi, Gsi) = default;
};

// PCI bus, device and function (PCI 3.0, 3.2.2.3.2).
struct Bdf {
  uint8_t bus = 0;       // 0..255
  uint8_t device = 0;    // 0..31
  uint8_t function = 0;  // 0..7
  friend constexpr auto operator<=>(const Bdf&, const Bdf&) = default;
};

}  // namespace vmm
