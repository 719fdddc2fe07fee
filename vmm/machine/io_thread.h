// SPDX-License-Identifier: Apache-2.0
//
// An event loop on a thread of its own.
#pragma once

#include <memory>
#include <thread>

#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"

namespace vmm {

class IoThread {
 public:
  static Result<std::unique_ptr<IoThread>> create();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;
  ~IoThread() { stop(); }

  [[nodiscard]] EventLoop& loop() { return *loop_; }

  // The thread; before, whoever made it may set up the loop. `name` is what the host shows of it, at most 15
  // bytes.
  void start(const char* name);
  // Waits for it. What the loop watches may go after that.
  void stop();

 private:
  explicit IoThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {}
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

}  // namespace vmm
