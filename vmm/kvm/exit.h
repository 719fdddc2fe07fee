// SPDX-License-Identifier: Apache-2.0
//
// Why a vCPU came back (struct kvm_run, Documentation/virt/kvm/api.rst, section 5). Spans point into the
// vCPU's run area and are valid until its next run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "vmm/core/types.h"

namespace vmm::kvm {

// One IN or INS, or OUT or OUTS: `data` holds count x size bytes.
struct PortRead {
  Port port;
  uint8_t size;  // 1, 2 or 4
  std::span<std::byte> data;
};
struct PortWrite {
  Port port;
  uint8_t size;
  std::span<const std::byte> data;
};
struct MmioRead {
  Gpa address;
  std::span<std::byte> data;  // 1..8 bytes
};
struct MmioWrite {
  Gpa address;
  std::span<const std::byte> data;
};
struct Halted {};  // HLT; only without an in-kernel local APIC
struct TripleFault {};
struct Interrupted {};  // a kick, or a signal
struct SystemEvent {    // KVM_EXIT_SYSTEM_EVENT
  uint32_t type;
};
// KVM cannot go on: the guest did something KVM cannot emulate, or KVM is at fault.
struct InternalError {
  uint32_t suberror;
  std::array<uint64_t, 16> data;
  uint32_t data_count;
  std::array<uint8_t, 15> instruction;  // bytes at RIP, as far as KVM gave them
  uint32_t instruction_size;
};
struct FailedEntry {  // the CPU refused the guest's state
  uint64_t hardware_reason;
  uint32_t cpu;
};
struct RunFailed {  // the ioctl itself
  int error;
};
struct Unexpected {
  uint32_t reason;
};

using Exit = std::variant<PortRead, PortWrite, MmioRead, MmioWrite, Halted, TripleFault, Interrupted,
                          SystemEvent, InternalError, FailedEntry, RunFailed, Unexpected>;

// How the receipt and the diagnostics name the alternative `index` of an Exit.
[[nodiscard]] std::string_view exit_name(size_t index);
[[nodiscard]] std::string_view suberror_name(uint32_t suberror);

}  // namespace vmm::kvm
