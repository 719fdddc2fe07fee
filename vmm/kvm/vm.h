// SPDX-License-Identifier: Apache-2.0
//
// One virtual machine as KVM knows it: memory slots, the in-kernel interrupt controllers, and the wires to
// them.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/readable_pages.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"
#include "vmm/kvm/abi.h"
#include "vmm/kvm/coalesced_writes.h"
#include "vmm/kvm/system.h"
#include "vmm/kvm/vcpu.h"

namespace vmm::kvm {

class Vm final : public MsiSink, public DoorbellSink, public ReadablePages {
 public:
  struct Options {
    bool pit = false;  // the i8254; Linux with a TSC-deadline timer or kvm-clock does without
    // Shown from the start, where the host can do that; show() finds it done. Later each of them would wait
    // for what KVM does in the background after it has made the interrupt controllers: 5 to 10 ms.
    std::span<const ReadablePages::Place> readable;
  };
  // A VM with local APICs, I/O APIC and PIC in the kernel and `memory` as its RAM, which must outlive it.
  static Result<std::unique_ptr<Vm>> create(const System& system, const GuestMemory& memory,
                                            const Options& options);

  Result<Vcpu> create_vcpu(uint32_t index);

  enum class Trigger : uint8_t { edge, level };
  // An input of the I/O APIC (and, below 16, of the PIC). Edge inputs are pulsed through an irqfd.
  Result<std::unique_ptr<IrqLine>> create_line(Gsi gsi, Trigger trigger);

  Result<std::unique_ptr<MsiVector>> create_vector() override;

  Result<void> bind(const DoorbellAddress& address, int event_fd) override;
  void unbind(const DoorbellAddress& address, int event_fd) override;

  void coalesce(Gpa base, uint64_t size) override;
  void uncoalesce(Gpa base, uint64_t size) override;

  Result<void> show(Gpa base, std::span<std::byte> pages) override;
  void hide(Gpa base) override;

  [[nodiscard]] Fd stats_fd() const;
  // Interrupts that devices asked for so far.
  [[nodiscard]] uint64_t interrupts() const { return interrupts_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kFirstShown = 64;  // slots before it are RAM's
  friend class MsiRoute;
  explicit Vm(const System& system, Fd fd) : system_(system), fd_(std::move(fd)) {}
  Result<void> ioeventfd(const DoorbellAddress& address, int event_fd, uint32_t flags);
  Result<void> irqfd(Gsi gsi, int event_fd, uint32_t flags);

  Result<void> set_route(Gsi gsi, const MsiMessage& message);  // a table unchanged is not sent
  Result<void> send_routes();

  const System& system_;
  Fd fd_;
  CoalescedWrites coalesced_;
  std::atomic<uint64_t> interrupts_{0};
  std::mutex shown_mutex_;
  std::map<uint64_t, uint32_t> shown_;  // read-only memory slots by guest address; guarded by shown_mutex_
  uint32_t next_shown_ = kFirstShown;   // guarded by shown_mutex_
  std::mutex routes_mutex_;
  std::vector<kvm_irq_routing_entry> routes_;  // guarded by routes_mutex_
  uint32_t next_gsi_;                          // guarded by routes_mutex_
};

}  // namespace vmm::kvm
