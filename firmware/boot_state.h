// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/core/boot_state.h"

namespace vmm::firmware {
using vmm::BootState;
}
