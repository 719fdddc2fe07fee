// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/coalesced_writes.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace vmm::kvm {
namespace {

// KVM_COALESCED_MMIO_MAX of a page of 4 KiB, as KVM counts.
constexpr size_t kEntries = (4096 - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);

}  // namespace

void CoalescedWrites::make(Bus& mmio) {
  // `first` moves when a write has been made: equal, they all have.
  const auto waiting = [this] {
    return __atomic_load_n(&ring_->first, __ATOMIC_ACQUIRE) !=
           __atomic_load_n(&ring_->last, __ATOMIC_ACQUIRE);
  };
  if (ring_ == nullptr || !waiting()) return;
  const std::lock_guard lock{mutex_};
  while (waiting()) {
    const uint32_t first = ring_->first;
    const kvm_coalesced_mmio write = ring_->coalesced_mmio[first % kEntries];
    mmio.write(write.phys_addr, std::as_bytes(std::span{write.data}.first(std::min<size_t>(write.len, 8))));
    __atomic_store_n(&ring_->first, static_cast<uint32_t>((first + 1) % kEntries), __ATOMIC_RELEASE);
  }
}

}  // namespace vmm::kvm
