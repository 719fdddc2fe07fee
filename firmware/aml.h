// SPDX-License-Identifier: Apache-2.0
//
// ACPI Machine Language, as far as lists of devices need it: each function gives the bytes of one term, to be
// put into another (ACPI 6.5, 20.2). What does not depend on numbers is written in ASL instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/core/types.h"

namespace vmm::firmware::aml {

using Bytes = std::vector<std::byte>;

void append(Bytes& to, std::span<const std::byte> bytes);

// Data.
[[nodiscard]] Bytes integer(uint64_t value);
[[nodiscard]] Bytes string(std::string_view text);  // ASCII
// A resource template: the descriptors, ended as they must be (6.4).
[[nodiscard]] Bytes resources(std::initializer_list<Bytes> descriptors);

// Resource descriptors (6.4.3.4 and 6.4.3.6).
[[nodiscard]] Bytes memory32(uint32_t base, uint32_t size);
[[nodiscard]] Bytes edge_interrupt(Gsi gsi);  // active high, not shared

// Objects. A name has one to four characters.
[[nodiscard]] Bytes name(std::string_view name, const Bytes& data);
[[nodiscard]] Bytes device(std::string_view name, std::initializer_list<Bytes> objects);
[[nodiscard]] Bytes system_bus(const Bytes& objects);  // Scope (\_SB)

}  // namespace vmm::firmware::aml
