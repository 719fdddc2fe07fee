// SPDX-License-Identifier: Apache-2.0
//
// How a device asks for the end of the run. A device posts and returns; the machine's main thread acts.
#pragma once

#include <cstdint>
#include <string_view>

namespace vmm {

enum class PowerEvent : uint8_t {
  power_off,    // ACPI S5
  reset,        // reset register, i8042, triple fault if configured so
  guest_panic,  // pvpanic
  debug_exit,   // debug exit port: `status` counts
};

class PowerSink {
 public:
  virtual ~PowerSink() = default;
  // Any thread; never blocks. The first request of a run wins. `source` names the register or port, for the
  // log.
  virtual void request(PowerEvent event, std::string_view source, uint8_t status = 0) = 0;
};

}  // namespace vmm
