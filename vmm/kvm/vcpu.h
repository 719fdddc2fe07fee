// SPDX-License-Identifier: Apache-2.0
//
// One vCPU. Everything but kick() belongs to the thread that runs it.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <span>

#include "vmm/core/boot_state.h"
#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/kvm/abi.h"
#include "vmm/kvm/coalesced_writes.h"
#include "vmm/kvm/exit.h"

namespace vmm::kvm {

// Where a vCPU is, for a person.
struct Position {
  uint64_t rip = 0;
  uint64_t cr0 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t rflags = 0;
  uint16_t cs = 0;
  uint64_t cs_base = 0;
  bool halted = false;
};

class Vcpu {
 public:
  Vcpu(Vcpu&&) noexcept = default;
  Vcpu& operator=(Vcpu&&) noexcept = default;

  Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  // Power-on state of every vCPU beyond KVM's own: local APIC pins, memory types.
  Result<void> set_power_on_state();
  Result<void> set_boot_state(const BootState& boot);

  // Runs the guest until it needs us. A read's span must be filled before the next run.
  [[nodiscard]] Exit run();

  // What the guest wrote before that exit, and KVM kept: before anything else is done about it.
  void make_coalesced_writes(Bus& mmio) { coalesced_->make(mmio); }

  // Completes the exit in hand without running guest code, so that registers are consistent.
  void finish_exit();

  [[nodiscard]] Result<Position> position() const;

  [[nodiscard]] uint32_t tsc_khz() const;  // what the guest's TSC counts; 0 if KVM does not say

  // KVM's counters of this vCPU, for any thread; closed where the host has none.
  [[nodiscard]] const Fd& stats_fd() const { return stats_; }

  [[nodiscard]] uint32_t index() const { return index_; }
  // Any thread: makes run() return Interrupted, now or at its next call. `thread` is the one that runs this
  // vCPU.
  void kick(pthread_t thread);
  void clear_kick();

  // The signal that kicks, with a handler that does nothing. Once, before vCPU threads start.
  static void install_kick_signal();
  [[nodiscard]] static int kick_signal();

 private:
  friend class Vm;
  Vcpu(uint32_t index, Fd fd, Mapping run, CoalescedWrites& coalesced);
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] kvm_run* area() const { return reinterpret_cast<kvm_run*>(run_area_.data()); }
  Exit decode() const;

  uint32_t index_;
  Fd fd_;
  Fd stats_;  // opened here and now: KVM hands it out only while the vCPU does not run
  Mapping run_area_;
  CoalescedWrites* coalesced_;  // the machine's
};

}  // namespace vmm::kvm
