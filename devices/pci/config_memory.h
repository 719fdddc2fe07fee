// SPDX-License-Identifier: Apache-2.0
//
// The memory of ConfigPage: a page for function 0 of each device of bus 0, zero, and where it lies in ECAM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "vmm/core/guest_memory.h"
#include "vmm/core/readable_pages.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::pci {

class ConfigMemory {
 public:
  static constexpr uint8_t kDevices = 32;

  // For an ECAM at `base`.
  static Result<ConfigMemory> create(Gpa base);
  [[nodiscard]] Gpa base() const { return base_; }
  [[nodiscard]] ReadablePages::Place page(uint8_t device) const;

 private:
  ConfigMemory(Gpa base, Mapping memory) : base_(base), memory_(std::move(memory)) {}

  Gpa base_;
  Mapping memory_;  // untouched pages cost nothing
};

}  // namespace vmm::pci
