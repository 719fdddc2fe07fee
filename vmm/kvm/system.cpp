// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/system.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

namespace vmm::kvm {
namespace {

constexpr std::array kCapabilities = {
    Capability{KVM_CAP_IRQCHIP, "IRQCHIP", "local APICs, I/O APIC and PIC in the kernel", true},
    Capability{KVM_CAP_USER_MEMORY, "USER_MEMORY", "guest RAM from our own memory", true},
    Capability{KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR", "real mode on Intel CPUs without unrestricted guest",
               true},
    Capability{KVM_CAP_EXT_CPUID, "EXT_CPUID", "choosing the guest's CPUID", true},
    Capability{KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING", "message-signalled interrupts", true},
    Capability{KVM_CAP_IRQFD, "IRQFD", "device interrupts without a system call into KVM", true},
    Capability{KVM_CAP_IOEVENTFD, "IOEVENTFD", "doorbells without an exit to user space", true},
    Capability{KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", "stopping a vCPU without a race", true},
    Capability{KVM_CAP_MP_STATE, "MP_STATE", "more than one vCPU", true},
    Capability{KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH", "doorbells of any width", false},
    Capability{KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER", "a timer that needs no calibration", false},
    Capability{KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ", "telling the guest its TSC frequency", false},
    Capability{KVM_CAP_X2APIC_API, "X2APIC_API", "local APIC ids above 254", false},
    Capability{KVM_CAP_PIT2, "PIT2", "the i8254 timer, for guests that ask for it", false},
    Capability{KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK", "kvm-clock", false},
    Capability{KVM_CAP_BINARY_STATS_FD, "BINARY_STATS_FD", "KVM's own counters in the receipt", false},
    Capability{KVM_CAP_READONLY_MEM, "READONLY_MEM", "memory that the guest reads without an exit", false},
    Capability{KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP", "only the local APICs in the kernel", false},
    Capability{KVM_CAP_DIRTY_LOG_RING, "DIRTY_LOG_RING", "tracking written pages", false},
};

Error open_error(int code) {
  switch (code) {
    case ENOENT:
      return {
          "open /dev/kvm: there is no such device; load the module (modprobe kvm_intel or kvm_amd), enable "
          "virtualization in the firmware, or run `vmm doctor`",
          code};
    case EACCES:
    case EPERM:
      return {
          "open /dev/kvm: permission denied; join its group (usermod -aG kvm USER, then log in again), or "
          "run "
          "`vmm doctor`",
          code};
    default:
      return fail(code, "open /dev/kvm").value();
  }
}

}  // namespace

std::span<const Capability> capabilities() {
  return kCapabilities;
}

Result<System> System::open() {
  System system{Fd{::open("/dev/kvm", O_RDWR | O_CLOEXEC)}};
  if (!system.fd_) return tl::unexpected(open_error(errno));

  const int version = ::ioctl(system.fd(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION) {
    return fail("/dev/kvm speaks API version {}, this program {}: use a Linux of this century", version,
                KVM_API_VERSION);
  }
  for (const auto& capability : kCapabilities) {
    if (capability.required && system.check(capability.number) <= 0) {
      return fail("/dev/kvm lacks KVM_CAP_{} ({}): this needs a newer kernel", capability.name,
                  capability.purpose);
    }
  }
  const int size = ::ioctl(system.fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (size < static_cast<int>(sizeof(kvm_run)))
    return fail(errno, "ask /dev/kvm for the size of a vCPU's run area");
  system.run_area_size_ = static_cast<size_t>(size);
  return system;
}

int System::check(uint32_t capability) const {
  return ::ioctl(fd(), KVM_CHECK_EXTENSION, capability);
}

uint32_t System::max_vcpus() const {
  return static_cast<uint32_t>(std::max(check(KVM_CAP_MAX_VCPUS), 1));
}

Result<std::vector<kvm_cpuid_entry2>> System::supported_cpuid() const {
  // The kernel refuses a table that is too small with E2BIG, and never needs more than a few hundred entries.
  for (uint32_t room = 128; room <= 4096; room *= 2) {
    const auto bytes = offsetof(kvm_cpuid2, entries) + room * sizeof(kvm_cpuid_entry2);
    const auto buffer = std::make_unique<std::byte[]>(bytes);
    auto* table = reinterpret_cast<kvm_cpuid2*>(buffer.get());
    table->nent = room;
    if (::ioctl(fd(), KVM_GET_SUPPORTED_CPUID, table) == 0) {
      return std::vector<kvm_cpuid_entry2>{table->entries, table->entries + table->nent};
    }
    if (errno != E2BIG) break;
  }
  return fail(errno, "ask /dev/kvm for the CPUID it supports");
}

}  // namespace vmm::kvm
