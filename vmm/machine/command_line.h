// SPDX-License-Identifier: Apache-2.0
//
// The kernel command line that this machine calls for.
#pragma once

#include <string>
#include <vector>

#include "vmm/machine/config.h"

namespace vmm {

// A word of the default command line, and what it is for: the manual page has them all.
struct CommandLineWord {
  std::string word;
  std::string purpose;
};
[[nodiscard]] std::vector<CommandLineWord> default_command_line(const Config& config);

// --cmdline, or the default for this configuration; then what the transport needs; then --append.
[[nodiscard]] std::string guest_command_line(const Config& config);

}  // namespace vmm
