// SPDX-License-Identifier: Apache-2.0
//
// /dev/kvm itself: what this host's KVM can do (Documentation/virt/kvm/api.rst, "System ioctls").
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/core/fd.h"
#include "vmm/core/result.h"
#include "vmm/kvm/abi.h"

namespace vmm::kvm {

// A capability of KVM, and why we ask for it.
struct Capability {
  uint32_t number;
  std::string_view name;
  std::string_view purpose;
  bool required;
};
[[nodiscard]] std::span<const Capability> capabilities();

class System {
 public:
  // Fails with a remedy where the device is missing, forbidden, or speaks another API version. Required
  // capabilities are checked here.
  static Result<System> open();

  // The value KVM_CHECK_EXTENSION gives: 0 if absent, else 1 or a number that the capability defines.
  [[nodiscard]] int check(uint32_t capability) const;
  [[nodiscard]] uint32_t max_vcpus() const;
  [[nodiscard]] size_t run_area_size() const { return run_area_size_; }  // bytes to map of each vCPU

  // CPUID as this KVM can offer it (KVM_GET_SUPPORTED_CPUID).
  [[nodiscard]] Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit System(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
  size_t run_area_size_ = 0;
};

}  // namespace vmm::kvm
