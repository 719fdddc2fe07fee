// SPDX-License-Identifier: Apache-2.0
//
// What this host can do for a guest, found out without starting one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vmm {

struct HostReport {
  enum class Kind : uint8_t {
    hardware,   // VT-x or AMD-V: everything, at full speed
    emulating,  // KVM that emulates kernel mode: bare-metal payloads run, Linux does not
    unusable,   // /dev/kvm cannot be used
  };
  enum class Verdict : uint8_t { good, missing_optional, bad };
  struct Finding {
    std::string subject;
    Verdict verdict;
    std::string fact;
    std::string remedy;  // empty where there is nothing to do
  };
  Kind kind = Kind::unusable;
  std::vector<Finding> findings;
};

[[nodiscard]] std::string_view to_string(HostReport::Kind kind);

[[nodiscard]] HostReport examine_host();

}  // namespace vmm
