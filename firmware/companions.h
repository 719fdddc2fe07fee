// SPDX-License-Identifier: Apache-2.0
//
// What comes with a kernel, whatever its kind: a command line and an initrd.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "firmware/loader.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

// Writes it with a terminating zero to kCommandLine. `most`: characters the kernel takes, without the zero.
Result<void> write_command_line(const GuestMemory& memory, const std::string& text, uint64_t most,
                                const std::string& kernel);

struct Initrd {
  Gpa base;
  uint64_t size = 0;
};

// Where load_initrd will put it, and the kernel must end; `end` if there is no initrd.
Result<Gpa> initrd_floor(const LoadOptions& options, Gpa lowest, Gpa end);

// Reads options.initrd, if there is one, to the highest pages of RAM that lie in [lowest, end), and appends
// the phase to `loaded`.
Result<std::optional<Initrd>> load_initrd(const GuestMemory& memory, const LoadOptions& options, Gpa lowest,
                                          Gpa end, LoadedKernel& loaded);

}  // namespace vmm::firmware
