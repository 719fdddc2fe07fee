// SPDX-License-Identifier: Apache-2.0
// Starting the other processors: Intel SDM vol. 3, 8.4.4.1 "Typical BSP Initialization Sequence" (INIT, SIPI,
// SIPI).
#pragma once

#include <stdint.h>

#include "acpi.h"

namespace payload {

// Sends INIT and then two SIPIs to each processor of the MADT but this one; each runs `entry(index)` in long
// mode on a stack of its own, index 1, 2, … in order of arrival, then halts for good. Returns how many were
// asked to start.
unsigned start_processors(const Madt& madt, void (*entry)(uint32_t index));

}  // namespace payload
