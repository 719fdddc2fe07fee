// SPDX-License-Identifier: Apache-2.0
//
// At most so many bytes, and so many operations, a second: a token bucket each, shared by whatever threads
// are to keep to it together. Any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>

#include "devices/backend/token_bucket.h"

namespace vmm::backend {

class RateLimit {
 public:
  using Clock = TokenBucket::Clock;
  struct Rates {
    uint64_t bytes = 0;       // a second; 0: no limit
    uint64_t operations = 0;  // the same
    [[nodiscard]] bool unlimited() const { return bytes == 0 && operations == 0; }
  };

  explicit RateLimit(const Rates& rates) : bytes_(rates.bytes), operations_(rates.operations) {}

  // How long until one more operation may be done, however large; zero: now.
  [[nodiscard]] Clock::duration delay(Clock::time_point now) const {
    const std::lock_guard lock{mutex_};
    return std::max(bytes_.delay(now), operations_.delay(now));
  }
  // One has been let through. That several threads may have asked before is their debt, and is paid.
  void take(uint64_t bytes, Clock::time_point now) {
    const std::lock_guard lock{mutex_};
    bytes_.take(bytes, now);
    operations_.take(1, now);
  }

 private:
  mutable std::mutex mutex_;  // guards the buckets
  TokenBucket bytes_;
  TokenBucket operations_;
};

}  // namespace vmm::backend
