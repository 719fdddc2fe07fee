// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/receipt.h"

#include <time.h>

#include <cstdio>
#include <memory>

namespace vmm {

uint64_t process_pss() {
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen("/proc/self/smaps_rollup", "re"), &std::fclose};
  if (!file) return 0;
  char line[256];
  while (std::fgets(line, sizeof line, file.get()) != nullptr) {
    unsigned long long kib = 0;
    if (std::sscanf(line, "Pss: %llu kB", &kib) == 1) return uint64_t{kib} * 1024;  // NOLINT(cert-err34-c)
  }
  return 0;
}

std::chrono::nanoseconds process_cpu_time() {
  timespec spent{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

}  // namespace vmm
