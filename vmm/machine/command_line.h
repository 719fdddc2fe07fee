// SPDX-License-Identifier: Apache-2.0
//
// The kernel command line that this machine calls for.
#pragma once

#include <string>

#include "vmm/machine/config.h"

namespace vmm {

// --cmdline, or the default for this configuration; then what the transport needs; then --append.
[[nodiscard]] std::string guest_command_line(const Config& config);

}  // namespace vmm
