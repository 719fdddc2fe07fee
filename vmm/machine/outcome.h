// SPDX-License-Identifier: Apache-2.0
//
// How a run of the machine ended, and what the process says of it to its caller.
#pragma once

#include <cstdint>
#include <string>

namespace vmm {

struct Outcome {
  enum class Kind : uint8_t {
    power_off,
    host_failure,  // the host refused something in the middle of a run
    guest_panic,   // pvpanic
    triple_fault,
    emulation_failure,  // KVM could not go on with the guest
    timeout,            // --timeout
    expectation_unmet,  // the guest ended before every --expect was seen
    expectations_met,
    reset,
    debug_exit,  // port 0xF4
    signal,      // killed by a signal
    quit,        // the user typed Ctrl-A x
  };
  Kind kind = Kind::power_off;
  uint8_t status = 0;  // debug_exit: the exit code; signal: its number
  std::string detail;  // one line for a person
};

// The exit codes of vmm; documented in the manual page.
[[nodiscard]] constexpr int exit_code(const Outcome& outcome) {
  switch (outcome.kind) {
    case Outcome::Kind::power_off:
    case Outcome::Kind::expectations_met:
    case Outcome::Kind::quit:
      return 0;
    case Outcome::Kind::host_failure:
      return 1;
    case Outcome::Kind::guest_panic:
      return 3;
    case Outcome::Kind::triple_fault:
      return 4;
    case Outcome::Kind::emulation_failure:
      return 5;
    case Outcome::Kind::timeout:
      return 6;
    case Outcome::Kind::expectation_unmet:
      return 7;
    case Outcome::Kind::reset:
      return 8;
    case Outcome::Kind::debug_exit:
      return outcome.status;
    case Outcome::Kind::signal:
      return 128 + outcome.status;
  }
  return 1;
}

}  // namespace vmm
