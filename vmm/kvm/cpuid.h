// SPDX-License-Identifier: Apache-2.0
//
// The CPUID a guest sees: what KVM supports, with the topology of this machine, the frequencies that spare
// the guest its calibration loops, and the user's feature mask. Pure functions on the table.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "vmm/core/result.h"
#include "vmm/kvm/abi.h"

namespace vmm::kvm {

using CpuidTable = std::vector<kvm_cpuid_entry2>;

struct CpuidOptions {
  uint32_t cpus = 1;         // one socket of this many single-threaded cores
  uint32_t tsc_khz = 0;      // 0: unknown
  bool tsc_deadline = true;  // KVM_CAP_TSC_DEADLINE_TIMER
};

// From what KVM supports to the table of this machine; the same for all vCPUs but for what for_vcpu() sets.
[[nodiscard]] CpuidTable shape_cpuid(CpuidTable supported, const CpuidOptions& options);

// Last, for the user has the last word: "host", or "host" with features taken away or required, as in
// "host,-avx512f,+x2apic". Names as /proc/cpuinfo has them. Fails on a name that is not known, and on a
// feature required that the table does not have.
Result<CpuidTable> apply_cpu_model(CpuidTable table, std::string_view model);

// The table with `apic_id` in every leaf that tells it.
[[nodiscard]] CpuidTable for_vcpu(const CpuidTable& table, uint32_t apic_id);

}  // namespace vmm::kvm
