// SPDX-License-Identifier: Apache-2.0
//
// A machine in one JSON file: an object whose keys are the names of the options, and whose values are what
// the options take. Options that can be repeated are lists. Relative paths are relative to the file.
#pragma once

#include <filesystem>
#include <string>

#include "vmm/core/result.h"
#include "vmm/machine/config.h"

namespace vmm::cli {

// Sets in `config` what the file says. Errors name the file and the key.
Result<void> read_config_file(const std::filesystem::path& path, Config& config);

// The file that says the same as `config`; what is at its default is left out. Ends with a line feed.
[[nodiscard]] std::string write_config(const Config& config);

}  // namespace vmm::cli
