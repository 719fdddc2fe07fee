// SPDX-License-Identifier: Apache-2.0
//
// The option table. --help, the manual page and the shell completion are all made from it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmm/cli/control.h"
#include "vmm/core/result.h"
#include "vmm/machine/config.h"

namespace CLI {
class App;
}

namespace vmm::cli {

// What the command line asks for.
struct Command {
  enum class Kind : uint8_t { run, doctor, control, print_config, print_text };
  Kind kind = Kind::run;
  Config config;           // run, print_config
  bool json = false;       // doctor
  ControlRequest request;  // control
  std::string text;        // print_text: help, version, the manual page, a completion script
};

// Exit code 2 goes with the error: something on the command line, or in the configuration file, is wrong.
Result<Command> parse_command_line(std::span<const char* const> arguments);

}  // namespace vmm::cli
