// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.h"

#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>

namespace vmm::kvm {
namespace {

// Intel SDM vol. 3A, 2.5 and 2.2.1.
constexpr uint64_t kCr0ProtectedMode = 1U << 0;
constexpr uint64_t kCr0ExtensionType = 1U << 4;
constexpr uint64_t kCr0Paging = 1U << 31;
constexpr uint64_t kCr4PhysicalAddressExtension = 1U << 5;
constexpr uint64_t kEferLongModeEnable = 1U << 8;
constexpr uint64_t kEferLongModeActive = 1U << 10;
constexpr uint64_t kRflagsReserved = 1U << 1;

// Intel SDM vol. 3A, 11.11.2.1: MTRRs enabled, write-back where no MTRR says otherwise.
constexpr uint32_t kMsrMtrrDefaultType = 0x2ff;
constexpr uint64_t kMtrrEnabledWriteBack = 1U << 11 | 6;

// Local vector table (Intel SDM vol. 3A, 11.5.1).
constexpr size_t kApicLvtLint0 = 0x350;
constexpr size_t kApicLvtLint1 = 0x360;
constexpr uint32_t kDeliveryExtInt = 7U << 8;
constexpr uint32_t kDeliveryNmi = 4U << 8;

kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_mode) {
  kvm_segment segment{};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  segment.g = 1;
  segment.l = long_mode ? 1 : 0;
  segment.db = long_mode ? 0 : 1;
  return segment;
}

}  // namespace

Vcpu::Vcpu(uint32_t index, Fd fd, Mapping run, CoalescedWrites& coalesced)
    : index_(index),
      fd_(std::move(fd)),
      stats_(::ioctl(fd_.get(), KVM_GET_STATS_FD, 0)),
      run_area_(std::move(run)),
      coalesced_(&coalesced) {}

int Vcpu::kick_signal() {
  return SIGRTMIN;
}

void Vcpu::install_kick_signal() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  ::sigaction(kick_signal(), &action, nullptr);
}

void Vcpu::kick(pthread_t thread) {
  // Set before the signal: if the signal comes just before KVM_RUN, KVM_RUN sees the flag and returns.
  __atomic_store_n(&area()->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
  ::pthread_kill(thread, kick_signal());
}

void Vcpu::clear_kick() {
  __atomic_store_n(&area()->immediate_exit, uint8_t{0}, __ATOMIC_SEQ_CST);
}

Result<void> Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  const auto bytes = offsetof(kvm_cpuid2, entries) + entries.size_bytes();
  const auto buffer = std::make_unique<std::byte[]>(bytes);
  auto* table = reinterpret_cast<kvm_cpuid2*>(buffer.get());
  table->nent = static_cast<uint32_t>(entries.size());
  std::memcpy(table->entries, entries.data(), entries.size_bytes());
  if (::ioctl(fd(), KVM_SET_CPUID2, table) != 0) return fail(errno, "set the CPUID of vCPU {}", index_);
  return {};
}

Result<void> Vcpu::set_power_on_state() {
  const kvm_msr_entry memory_type{.index = kMsrMtrrDefaultType, .reserved = 0, .data = kMtrrEnabledWriteBack};
  alignas(kvm_msrs) std::array<std::byte, sizeof(kvm_msrs) + sizeof memory_type> msrs{};
  reinterpret_cast<kvm_msrs*>(msrs.data())->nmsrs = 1;
  std::memcpy(msrs.data() + offsetof(kvm_msrs, entries), &memory_type, sizeof memory_type);
  // KVM answers with how many it set. One that has no MTRRs is no obstacle.
  if (::ioctl(fd(), KVM_SET_MSRS, msrs.data()) < 0)
    return fail(errno, "set the memory types of vCPU {}", index_);

  // As firmware leaves them (MultiProcessor Specification 1.4, 3.6.1): the PIC on LINT0, NMI on LINT1.
  kvm_lapic_state lapic{};
  if (::ioctl(fd(), KVM_GET_LAPIC, &lapic) != 0) return fail(errno, "read the local APIC of vCPU {}", index_);
  const auto set = [&lapic](size_t offset, uint32_t value) {
    std::memcpy(lapic.regs + offset, &value, sizeof value);
  };
  set(kApicLvtLint0, kDeliveryExtInt);
  set(kApicLvtLint1, kDeliveryNmi);
  if (::ioctl(fd(), KVM_SET_LAPIC, &lapic) != 0) return fail(errno, "set the local APIC of vCPU {}", index_);
  return {};
}

Result<void> Vcpu::set_boot_state(const BootState& boot) {
  kvm_sregs sregs{};
  if (::ioctl(fd(), KVM_GET_SREGS, &sregs) != 0) return fail(errno, "read the registers of vCPU {}", index_);

  if (boot.mode == BootState::Mode::real16) {
    for (auto* segment : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
      segment->base = 0;
      segment->selector = 0;
    }
    sregs.cs.base = boot.code_base;
    sregs.cs.selector = static_cast<uint16_t>(boot.code_base >> 4);
  } else {
    const bool long_mode = boot.mode == BootState::Mode::long64;
    constexpr uint8_t kCodeExecuteRead = 0xb;
    constexpr uint8_t kDataReadWrite = 0x3;
    sregs.cs = flat_segment(BootState::kCodeSelector, kCodeExecuteRead, long_mode);
    const auto data = flat_segment(BootState::kDataSelector, kDataReadWrite, false);
    for (auto* segment : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) *segment = data;
    sregs.gdt.base = boot.gdt.raw;
    sregs.gdt.limit = boot.gdt_limit;
    sregs.idt.limit = 0;
    sregs.tr = kvm_segment{};
    sregs.tr.type = 0xb;  // a busy TSS, which the CPU demands on entry
    sregs.tr.present = 1;
    sregs.tr.limit = 0x67;
    sregs.cr0 = kCr0ProtectedMode | kCr0ExtensionType;
    if (long_mode) {
      sregs.cr0 |= kCr0Paging;
      sregs.cr3 = boot.page_tables.raw;
      sregs.cr4 |= kCr4PhysicalAddressExtension;
      sregs.efer |= kEferLongModeEnable | kEferLongModeActive;
    }
  }
  if (::ioctl(fd(), KVM_SET_SREGS, &sregs) != 0) return fail(errno, "set the segments of vCPU {}", index_);

  kvm_regs regs{};
  regs.rip = boot.rip;
  regs.rsp = boot.rsp;
  regs.rax = boot.rax;
  regs.rbx = boot.rbx;
  regs.rsi = boot.rsi;
  regs.rflags = kRflagsReserved;
  if (::ioctl(fd(), KVM_SET_REGS, &regs) != 0) return fail(errno, "set the registers of vCPU {}", index_);
  return {};
}

Exit Vcpu::run() {
  if (::ioctl(fd(), KVM_RUN, 0) == 0) return decode();
  if (errno == EINTR || errno == EAGAIN) return Interrupted{};
  return RunFailed{errno};
}

void Vcpu::finish_exit() {
  __atomic_store_n(&area()->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
  [[maybe_unused]] const int interrupted = ::ioctl(fd(), KVM_RUN, 0);
}

Exit Vcpu::decode() const {
  auto* run = area();
  switch (run->exit_reason) {
    case KVM_EXIT_IO: {
      auto* data = run_area_.data() + run->io.data_offset;
      const size_t length = size_t{run->io.size} * run->io.count;
      if (run->io.direction == KVM_EXIT_IO_IN)
        return PortRead{Port{run->io.port}, run->io.size, {data, length}};
      return PortWrite{Port{run->io.port}, run->io.size, {data, length}};
    }
    case KVM_EXIT_MMIO: {
      auto* data = reinterpret_cast<std::byte*>(run->mmio.data);
      const size_t length = std::min<size_t>(run->mmio.len, sizeof run->mmio.data);
      if (run->mmio.is_write != 0) return MmioWrite{Gpa{run->mmio.phys_addr}, {data, length}};
      return MmioRead{Gpa{run->mmio.phys_addr}, {data, length}};
    }
    case KVM_EXIT_HLT:
      return Halted{};
    case KVM_EXIT_SHUTDOWN:
      return TripleFault{};
    case KVM_EXIT_INTR:
      return Interrupted{};
    case KVM_EXIT_SYSTEM_EVENT:
      return SystemEvent{run->system_event.type};
    case KVM_EXIT_FAIL_ENTRY:
      return FailedEntry{run->fail_entry.hardware_entry_failure_reason, run->fail_entry.cpu};
    case KVM_EXIT_INTERNAL_ERROR: {
      InternalError error{};
      error.suberror = run->internal.suberror;
      error.data_count = std::min<uint32_t>(run->internal.ndata, error.data.size());
      std::copy_n(run->internal.data, error.data_count, error.data.begin());
      const auto& failure = run->emulation_failure;
      constexpr uint64_t kHasBytes = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
      if (error.suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 1 &&
          (failure.flags & kHasBytes) != 0) {
        error.instruction_size = std::min<uint32_t>(failure.insn_size, error.instruction.size());
        std::copy_n(failure.insn_bytes, error.instruction_size, error.instruction.begin());
      }
      return error;
    }
    default:
      return Unexpected{run->exit_reason};
  }
}

Result<Position> Vcpu::position() const {
  kvm_regs regs{};
  kvm_sregs sregs{};
  if (::ioctl(fd(), KVM_GET_REGS, &regs) != 0 || ::ioctl(fd(), KVM_GET_SREGS, &sregs) != 0) {
    return fail(errno, "read the registers of vCPU {}", index_);
  }
  kvm_mp_state state{};
  const bool known = ::ioctl(fd(), KVM_GET_MP_STATE, &state) == 0;
  return Position{.rip = regs.rip,
                  .cr0 = sregs.cr0,
                  .cr3 = sregs.cr3,
                  .cr4 = sregs.cr4,
                  .rflags = regs.rflags,
                  .cs = sregs.cs.selector,
                  .cs_base = sregs.cs.base,
                  .halted = known && state.mp_state == KVM_MP_STATE_HALTED};
}

uint32_t Vcpu::tsc_khz() const {
  const int khz = ::ioctl(fd(), KVM_GET_TSC_KHZ, 0);
  return khz > 0 ? static_cast<uint32_t>(khz) : 0;
}

std::string_view exit_name(size_t index) {
  constexpr std::array<std::string_view, std::variant_size_v<Exit>> kNames = {
      "port read",   "port write",   "mmio read",      "mmio write",   "hlt",        "triple fault",
      "interrupted", "system event", "internal error", "failed entry", "run failed", "unexpected"};
  return kNames[index];
}

std::string_view suberror_name(uint32_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "KVM cannot emulate the instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "exceptions at the same time";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "exit while an event was delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "an exit reason of the CPU that KVM does not know";
    default:
      return "unknown";
  }
}

}  // namespace vmm::kvm
