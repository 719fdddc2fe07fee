// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/entropy.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace vmm::backend {

void HostEntropy::fill(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::getrandom(bytes.data(), bytes.size(), 0);
    if (got > 0) {
      bytes = bytes.subspan(static_cast<size_t>(got));
    } else if (errno != EINTR) {
      // A kernel without getrandom, or a filter that forbids it: bytes that are not random must never be
      // handed out.
      std::abort();
    }
  }
}

}  // namespace vmm::backend
