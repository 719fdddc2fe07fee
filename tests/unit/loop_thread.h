// SPDX-License-Identifier: Apache-2.0
//
// An event loop running on a thread of its own, for tests of what lives on one.
#pragma once

#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "vmm/core/event_loop.h"

namespace vmm {

class LoopThread {
 public:
  explicit LoopThread(EventLoop::Engine engine = EventLoop::Engine::any) {
    auto loop = EventLoop::create(engine);
    if (!loop) std::abort();
    loop_ = std::move(*loop);
    thread_ = std::jthread{[this] { loop_->run(); }};
    loop_->call([] {});  // from here on it runs
  }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread() { loop_->stop(); }

  EventLoop& operator*() { return *loop_; }
  EventLoop* operator->() { return loop_.get(); }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::jthread thread_;  // last: joined before the loop goes
};

}  // namespace vmm
