// SPDX-License-Identifier: Apache-2.0
//
// Where CPUID keeps each feature that a user may mask, under the name that Linux prints in /proc/cpuinfo.
#pragma once

#include <cstdint>
#include <string_view>

#include "vmm/kvm/abi.h"

namespace vmm::kvm {

struct CpuFeature {
  std::string_view name;
  uint32_t function;
  uint32_t index;
  uint32_t kvm_cpuid_entry2::* word;
  uint32_t bit;
};

// None if no feature has this name.
[[nodiscard]] const CpuFeature* find_cpu_feature(std::string_view name);

}  // namespace vmm::kvm
