// SPDX-License-Identifier: Apache-2.0
//
// Holds one direction of a queue pair to a limit: while that is used up nothing is taken, and a timer goes on
// when there is something to use again. All of it is on the thread of one loop.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "devices/backend/rate_limit.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"

namespace vmm::virtio {

class NetThrottle {
 public:
  // None: no limit. It must outlive this, and may be others', too.
  explicit NetThrottle(backend::RateLimit* limit) : limit_(limit) {}

  // `resume` is called some time after closed() was true, until stop().
  Result<void> start(EventLoop& loop, std::function<void()> resume);
  void stop() { timer_.reset(); }

  // True: nothing may pass, resume() will be called. False: one frame may, and is to be counted.
  [[nodiscard]] bool closed();
  void count(size_t bytes) {
    if (limit_ != nullptr) limit_->take(bytes, backend::RateLimit::Clock::now());
  }

 private:
  backend::RateLimit* const limit_;
  std::optional<Timer> timer_;
  bool waiting_ = false;  // for the timer
};

}  // namespace vmm::virtio
