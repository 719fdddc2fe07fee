// SPDX-License-Identifier: Apache-2.0
//
// KVM's own counters of a VM or a vCPU (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/fd.h"

namespace vmm::kvm {

struct Statistic {
  std::string name;
  uint64_t value = 0;      // the first value: histograms are left out
  bool cumulative = true;  // a count since creation; else what is so now, or was at the peak
};

// Empty where `stats` is closed or says something that cannot be understood.
[[nodiscard]] std::vector<Statistic> read_statistics(const Fd& stats);

}  // namespace vmm::kvm
