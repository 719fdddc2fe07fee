// SPDX-License-Identifier: Apache-2.0
//
// What a guest that does not come up is probably suffering from. Pure text: from what it last said and from
// what its vCPUs do to a likely cause and a thing to try.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/machine/config.h"
#include "vmm/machine/receipt.h"

namespace vmm {

struct Silence {
  const Config& config;
  std::chrono::milliseconds length;
  std::string last_lines;          // of the console; empty: it never said a word
  std::vector<std::string> vcpus;  // where each is
  const Receipt& receipt;          // exits and accesses so far
};

[[nodiscard]] std::vector<std::string> diagnose_silence(const Silence& silence);

// Whether this line waits for a person: a shell's or a login's prompt.
[[nodiscard]] bool looks_like_prompt(std::string_view last_line);

}  // namespace vmm
