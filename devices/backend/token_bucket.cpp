// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/token_bucket.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace vmm::backend {
namespace {

constexpr std::chrono::seconds kDepth{1};

}  // namespace

TokenBucket::Clock::duration TokenBucket::delay(Clock::time_point now) const {
  if (rate_ == 0 || full_ < now + kDepth) return {};
  return full_ - (now + kDepth) + Clock::duration{1};
}

void TokenBucket::take(uint64_t tokens, Clock::time_point now) {
  if (rate_ == 0) return;
  assert(tokens <= 1ULL << 32);  // so that no time overflows, at whatever rate
  // Rounded up: the rate is not exceeded.
  const double nanoseconds = std::ceil(static_cast<double>(tokens) * 1e9 / static_cast<double>(rate_));
  full_ = std::max(full_, now) + std::chrono::nanoseconds{static_cast<int64_t>(nanoseconds)};
}

}  // namespace vmm::backend
