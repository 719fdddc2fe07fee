// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/vcpu_thread.h"

#include <sched.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

#include <fmt/core.h>

#include "vmm/core/log.h"

namespace vmm {
namespace {

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

std::chrono::nanoseconds thread_cpu_time(clockid_t clock) {
  timespec spent{};
  ::clock_gettime(clock, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

}  // namespace

void VcpuThread::start() {
  stopping_.store(false);
  cpu_ns_.store(0);
  thread_ = std::thread{[this] { loop(); }};
}

void VcpuThread::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  vcpu_.kick(thread_.native_handle());
  thread_.join();
}

void VcpuThread::loop() {
  // Signals are the main thread's, but for the kick.
  sigset_t all;
  ::sigfillset(&all);
  ::sigdelset(&all, kvm::Vcpu::kick_signal());
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), fmt::format("vcpu{}", vcpu_.index()).c_str());

  pin();

  std::optional<Trace::Track> track;
  if (targets_.trace != nullptr)
    track.emplace(*targets_.trace, vcpu_.index(), fmt::format("vcpu{}", vcpu_.index()));
  if (vcpu_.index() == 0) targets_.first_run();
  while (!stopping_.load()) {
    const auto exit = vcpu_.run();
    vcpu_.make_coalesced_writes(targets_.mmio);
    exits_[exit.index()].fetch_add(1, std::memory_order_relaxed);
    if (!(track ? handle_traced(exit, *track) : handle(exit))) break;
  }
  // Whoever asked for the position must not wait for a thread that is gone.
  answer_position();
  cpu_ns_.store(thread_cpu_time(CLOCK_THREAD_CPUTIME_ID).count());
}

// The session has seen that the host has this CPU; one that is taken away since is no reason to stop.
void VcpuThread::pin() const {
  if (!host_cpu_) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(*host_cpu_, &set);
  if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0) {
    log(LogLevel::warning, "vCPU {}: pin to host CPU {}: {}, it runs on any", vcpu_.index(), *host_cpu_,
        std::strerror(error));
  }
}

bool VcpuThread::handle_traced(const kvm::Exit& exit, Trace::Track& track) {
  const auto begin = Trace::Clock::now();
  const bool goes_on = handle(exit);
  const auto end = Trace::Clock::now();
  const auto item = [](std::span<const std::byte> data) {
    uint64_t value = 0;
    std::memcpy(&value, data.data(), std::min(data.size(), sizeof value));
    return value;
  };
  const auto access = [&](std::string_view space, const Bus& bus, bool write, uint64_t address,
                          std::span<const std::byte> data, size_t size) {
    const auto [device, offset] = bus.resident(address);
    track.slice({.space = space,
                 .device = device,
                 .write = write,
                 .address = address,
                 .offset = offset,
                 .value = item(data.first(size)),
                 .size = static_cast<uint32_t>(size),
                 .count = data.size() / size},
                begin, end);
  };
  const auto port = [&](const auto& io, bool write) {
    access("port", targets_.ports, write, io.port.raw, io.data, io.size);
  };
  const auto mmio = [&](const auto& io, bool write) {
    access("mmio", targets_.mmio, write, io.address.raw, io.data, io.data.size());
  };
  std::visit(Overloaded{[&](const kvm::PortRead& io) { port(io, false); },
                        [&](const kvm::PortWrite& io) { port(io, true); },
                        [&](const kvm::MmioRead& io) { mmio(io, false); },
                        [&](const kvm::MmioWrite& io) { mmio(io, true); },
                        [&](const auto&) { track.slice(kvm::exit_name(exit.index()), begin, end); }},
             exit);
  return goes_on;
}

bool VcpuThread::handle(const kvm::Exit& exit) {
  const auto end = [this](Outcome::Kind kind, std::string detail) {
    targets_.ended({.kind = kind, .status = 0, .detail = std::move(detail)});
    return false;
  };
  return std::visit(
      Overloaded{
          [&](const kvm::PortWrite& io) {
            for (size_t at = 0; at < io.data.size(); at += io.size) {
              targets_.ports.write(io.port.raw, io.data.subspan(at, io.size));
            }
            return true;
          },
          [&](const kvm::PortRead& io) {
            for (size_t at = 0; at < io.data.size(); at += io.size) {
              targets_.ports.read(io.port.raw, io.data.subspan(at, io.size));
            }
            return true;
          },
          [&](const kvm::MmioWrite& io) {
            targets_.mmio.write(io.address.raw, io.data);
            return true;
          },
          [&](const kvm::MmioRead& io) {
            targets_.mmio.read(io.address.raw, io.data);
            return true;
          },
          [&](const kvm::Interrupted&) {
            vcpu_.clear_kick();
            // A second kick may have come in between; stopping_ was set before it.
            answer_position();
            return !stopping_.load();
          },
          [&](const kvm::TripleFault&) {
            return end(Outcome::Kind::triple_fault, fmt::format("vCPU {}: triple fault", vcpu_.index()));
          },
          [&](const kvm::Halted&) {
            return end(Outcome::Kind::emulation_failure,
                       fmt::format("vCPU {}: KVM gave up a halted vCPU", vcpu_.index()));
          },
          [&](const kvm::SystemEvent& event) {
            return end(Outcome::Kind::emulation_failure,
                       fmt::format("vCPU {}: KVM system event {}", vcpu_.index(), event.type));
          },
          [&](const kvm::InternalError& error) {
            return end(Outcome::Kind::emulation_failure, describe(error));
          },
          [&](const kvm::FailedEntry& failed) {
            return end(Outcome::Kind::emulation_failure,
                       fmt::format("vCPU {}: the CPU refused the guest's state, hardware reason {:#x}",
                                   vcpu_.index(), failed.hardware_reason));
          },
          [&](const kvm::RunFailed& failed) {
            return end(Outcome::Kind::emulation_failure,
                       fmt::format("vCPU {}: KVM_RUN: {}", vcpu_.index(), std::strerror(failed.error)));
          },
          [&](const kvm::Unexpected& unexpected) {
            return end(Outcome::Kind::emulation_failure,
                       fmt::format("vCPU {}: exit reason {} of KVM is not one we asked for", vcpu_.index(),
                                   unexpected.reason));
          },
      },
      exit);
}

std::string VcpuThread::describe(const kvm::InternalError& error) {
  auto text = fmt::format("vCPU {}: KVM internal error {} ({})", vcpu_.index(), error.suberror,
                          kvm::suberror_name(error.suberror));
  if (const auto at = vcpu_.position()) {
    text +=
        fmt::format(" at RIP {:#x}{}, CS {:#x}, CR0 {:#x}", at->rip, targets_.name(at->rip), at->cs, at->cr0);
  }
  if (error.instruction_size != 0) {
    text += ", instruction bytes";
    for (uint32_t i = 0; i < error.instruction_size; ++i)
      text += fmt::format(" {:02x}", error.instruction[i]);
  } else {
    for (uint32_t i = 0; i < error.data_count; ++i)
      text += fmt::format("{} {:#x}", i == 0 ? ", data" : "", error.data[i]);
  }
  return text;
}

void VcpuThread::answer_position() {
  const std::lock_guard lock{mutex_};
  if (!asked_) return;
  asked_ = false;
  if (const auto at = vcpu_.position()) position_ = *at;
  answered_.notify_all();
}

std::optional<kvm::Position> VcpuThread::position() {
  std::unique_lock lock{mutex_};
  position_.reset();
  asked_ = true;
  vcpu_.kick(thread_.native_handle());
  constexpr std::chrono::milliseconds kPatience{500};
  answered_.wait_for(lock, kPatience, [this] { return !asked_; });
  asked_ = false;
  return position_;
}

std::array<uint64_t, VcpuThread::kExitKinds> VcpuThread::exit_counts() const {
  std::array<uint64_t, kExitKinds> counts{};
  for (size_t i = 0; i < kExitKinds; ++i) counts[i] = exits_[i].load(std::memory_order_relaxed);
  return counts;
}

std::chrono::nanoseconds VcpuThread::cpu_time() {
  clockid_t clock{};
  const std::chrono::nanoseconds ended{cpu_ns_.load()};
  const bool runs = ended.count() == 0 && thread_.joinable();
  return runs && ::pthread_getcpuclockid(thread_.native_handle(), &clock) == 0 ? thread_cpu_time(clock)
                                                                               : ended;
}

}  // namespace vmm
