// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/receipt.h"

#include <time.h>

namespace vmm {

std::chrono::nanoseconds process_cpu_time() {
  timespec spent{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

}  // namespace vmm
