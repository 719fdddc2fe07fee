// SPDX-License-Identifier: Apache-2.0
//
// A vCPU and the thread that runs it: the exit loop, and what each exit leads to.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>

#include "vmm/core/bus.h"
#include "vmm/core/result.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/outcome.h"
#include "vmm/machine/trace.h"

namespace vmm {

// Where exits go. Everything in it outlives the threads.
struct ExitTargets {
  Bus& ports;
  Bus& mmio;
  // The vCPU cannot go on, and so the machine ends. Any vCPU thread.
  std::function<void(Outcome)> ended;
  // " (start_kernel+0x10)" for an address that has a name, else nothing.
  std::function<std::string(uint64_t)> name;
  // Just before the first vCPU's first KVM_RUN.
  std::function<void()> first_run;
  Trace* trace = nullptr;  // none: exits are only counted
};

class VcpuThread {
 public:
  static constexpr size_t kExitKinds = std::variant_size_v<kvm::Exit>;

  // `host_cpu`: the only one that the thread runs on; none: any.
  VcpuThread(kvm::Vcpu vcpu, const ExitTargets& targets, std::optional<uint32_t> host_cpu)
      : vcpu_(std::move(vcpu)), targets_(targets), host_cpu_(host_cpu) {}
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread() { stop(); }

  Result<void> prepare(const BootState& boot) { return vcpu_.set_boot_state(boot); }
  void start();
  void stop();  // idempotent; returns when the thread has ended

  // Where the vCPU is: it is taken out of the guest for a moment. None if it does not answer in time.
  [[nodiscard]] std::optional<kvm::Position> position();

  // Of the thread so far, or in all once it has ended. Whoever starts and stops it.
  [[nodiscard]] std::chrono::nanoseconds cpu_time();
  // Any thread.
  [[nodiscard]] std::array<uint64_t, kExitKinds> exit_counts() const;
  [[nodiscard]] const kvm::Vcpu& vcpu() const { return vcpu_; }

 private:
  void loop();
  void pin() const;
  [[nodiscard]] bool handle_traced(const kvm::Exit& exit, Trace::Track& track);
  [[nodiscard]] bool handle(const kvm::Exit& exit);  // false: the vCPU is done
  void answer_position();
  [[nodiscard]] std::string describe(const kvm::InternalError& error);

  kvm::Vcpu vcpu_;
  const ExitTargets& targets_;
  const std::optional<uint32_t> host_cpu_;
  std::array<std::atomic<uint64_t>, kExitKinds> exits_{};
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> cpu_ns_{0};  // after the thread has ended

  std::mutex mutex_;
  std::condition_variable answered_;
  bool asked_ = false;                     // guarded by mutex_
  std::optional<kvm::Position> position_;  // guarded by mutex_

  std::thread thread_;
};

}  // namespace vmm
