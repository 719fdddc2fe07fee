// SPDX-License-Identifier: Apache-2.0
//
// The language of the control socket, both ends: an object of JSON a line. A request has a "command", and
// what that needs; an answer has "ok", and an "error" where that is false.
//
//   {"command": "stats"}                     {"ok": true, "stats": {…}}: the receipt so far, and "memory"
//   {"command": "memory", "size": "768M"}    {"ok": true, "driver": …}: whether the guest can do it (yet)
//   {"command": "disk", "disk": "vda", "resize": "2G"}    {"ok": true}, and the guest has been told
//   {"command": "power-button"}              {"ok": true}
//   {"command": "quit"}                      {"ok": true}, and the machine is stopped
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "vmm/core/result.h"
#include "vmm/machine/controls.h"

namespace vmm::cli {

// The machine's end; a ControlProtocol.
void answer_control(Controls& controls, std::string_view request, const LineServer::Answer& answer);

// What `vmm ctl` was asked to do.
struct ControlRequest {
  std::string machine;  // a path, if there is a slash in it, or an id
  std::string text;     // the request
};
// From `vmm ctl MACHINE COMMAND [ARGUMENT]...`: the words after ctl.
Result<ControlRequest> parse_control(std::span<const std::string> words);
inline constexpr std::string_view kControlUsage =
    "stats | memory SIZE | disk NAME resize SIZE | power-button | quit";

// The user's end: asks, and returns what is to be printed.
Result<std::string> control(const ControlRequest& request);

}  // namespace vmm::cli
