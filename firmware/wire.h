// SPDX-License-Identifier: Apache-2.0
//
// Structures as they lie in files and in guest memory. Host and guest are both x86: little-endian, any
// alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace vmm::firmware {

// The T at `offset`, if all of it is inside.
template <typename T>
[[nodiscard]] std::optional<T> peek(std::span<const std::byte> bytes, uint64_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (offset > bytes.size() || sizeof(T) > bytes.size() - offset) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

[[nodiscard]] constexpr uint64_t align_down(uint64_t value, uint64_t power_of_two) {
  return value & ~(power_of_two - 1);
}

// Wraps to 0 at the end of the address space.
[[nodiscard]] constexpr uint64_t align_up(uint64_t value, uint64_t power_of_two) {
  return align_down(value + power_of_two - 1, power_of_two);
}

// For messages: a size that is asked for is never rounded down.
[[nodiscard]] constexpr uint64_t mib_up(uint64_t bytes) {
  return (bytes >> 20) + ((bytes & 0xfffff) != 0 ? 1 : 0);
}

}  // namespace vmm::firmware
