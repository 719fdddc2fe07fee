// SPDX-License-Identifier: Apache-2.0
//
// Guest writes that KVM keeps instead of leaving the guest for each (api.rst, KVM_REGISTER_COALESCED_MMIO): a
// ring in a page that all vCPUs of a machine share. Whatever a guest does next that does leave it finds them
// made: each vCPU makes them after each KVM_RUN, before it looks at the exit.
#pragma once

#include <cstddef>
#include <mutex>

#include "vmm/core/bus.h"
#include "vmm/kvm/abi.h"

namespace vmm::kvm {

class CoalescedWrites {
 public:
  // The page as KVM maps it, once and before any vCPU runs. Without one there is nothing to make.
  void attach(std::byte* page) { ring_ = reinterpret_cast<kvm_coalesced_mmio_ring*>(page); }

  // Makes the writes that wait, oldest first, each once; returns when those that another vCPU is making are
  // made, too. Any vCPU thread.
  void make(Bus& mmio);

 private:
  kvm_coalesced_mmio_ring* ring_ = nullptr;
  std::mutex mutex_;  // held while writes are made: their order is the guest's
};

}  // namespace vmm::kvm
