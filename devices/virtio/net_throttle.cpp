// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net_throttle.h"

#include <algorithm>
#include <chrono>

namespace vmm::virtio {
namespace {

// What comes meanwhile goes together: not a wakeup for each frame.
constexpr backend::RateLimit::Clock::duration kShortestWait = std::chrono::milliseconds{1};

}  // namespace

Result<void> NetThrottle::start(EventLoop& loop, std::function<void()> resume) {
  waiting_ = false;
  if (limit_ == nullptr) return {};
  VMM_TRY_ASSIGN(timer_, Timer::create(loop, [this, resume = std::move(resume)] {
                   waiting_ = false;
                   resume();
                 }));
  return {};
}

bool NetThrottle::closed() {
  if (limit_ == nullptr) return false;
  if (waiting_) return true;
  const auto delay = limit_->delay(backend::RateLimit::Clock::now());
  if (delay.count() == 0) return false;
  timer_->arm(std::max(delay, kShortestWait));
  waiting_ = true;
  return true;
}

}  // namespace vmm::virtio
