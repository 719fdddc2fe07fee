// SPDX-License-Identifier: Apache-2.0
//
// An event loop on a thread of its own, as devices have it, and waiting for what happens there.
#pragma once

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "vmm/core/event_loop.h"

namespace vmm::backend {

// Polls `condition` for up to ten seconds: a bound for slow hosts, not a measure.
template <typename Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return true;
}

class RunningLoop {
 public:
  explicit RunningLoop(EventLoop::Engine engine = EventLoop::Engine::any)
      : loop_(*EventLoop::create(engine)) {}
  ~RunningLoop() { stop(); }

  EventLoop& operator*() { return *loop_; }
  EventLoop* operator->() { return loop_.get(); }

  void start() {
    thread_ = std::jthread{[this] { loop_->run(); }};
  }
  void stop() {
    if (!thread_.joinable()) return;
    loop_->stop();
    thread_.join();
  }
  // Waits until all that was posted before has run.
  void settle() {
    loop_->call([] {});
  }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::jthread thread_;
};

}  // namespace vmm::backend
