// SPDX-License-Identifier: Apache-2.0
//
// A rate that is kept on average: tokens flow into a bucket that holds one second's worth, and what is done
// takes some out. What is done may overdraw a bucket that is not empty, and whoever comes next waits until
// that is paid: so the rate holds, and nothing is too large to be done at all.
#pragma once

#include <chrono>
#include <cstdint>

namespace vmm::backend {

class TokenBucket {
 public:
  using Clock = std::chrono::steady_clock;

  // `rate` in tokens a second; 0: no limit. The bucket is full at first.
  explicit TokenBucket(uint64_t rate) : rate_(rate) {}

  // How long until something may be taken; zero: now.
  [[nodiscard]] Clock::duration delay(Clock::time_point now) const;
  // Takes `tokens`, at most 2^32; delay() has just allowed it.
  void take(uint64_t tokens, Clock::time_point now);

 private:
  uint64_t rate_;
  Clock::time_point full_{};  // when the bucket is full again; a second before that it holds nothing
};

}  // namespace vmm::backend
