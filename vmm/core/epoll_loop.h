// SPDX-License-Identifier: Apache-2.0
//
// The event loop for hosts that forbid io_uring. File I/O is done in place, on the loop's thread: correct,
// and never on a vCPU's thread, but one request at a time.
#pragma once

#include <deque>
#include <unordered_map>

#include "vmm/core/event_loop.h"

namespace vmm {

class EpollLoop final : public EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> create(EventFd wake);

  Watch watch(int fd, uint32_t events, Handler handler) override;
  Watch watch_bell(const EventFd& bell, std::function<void()> handler) override;
  void ring(const EventFd& bell) override { bell.signal(); }
  void flush() override {}
  void submit(const FileOp& op, IoCompletion& completion) override;
  [[nodiscard]] Engine engine() const override { return Engine::epoll; }

 protected:
  void turn() override;
  void unwatch(uint64_t id) override;

 private:
  struct Watched {
    int fd;
    std::shared_ptr<Handler> handler;  // shared: a handler may end its own watch while it runs
  };
  struct Pending {
    FileOp op;
    IoCompletion* completion;
  };
  EpollLoop(EventFd wake, Fd epoll) : EventLoop(std::move(wake)), epoll_(std::move(epoll)) {}

  Fd epoll_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Watched> watched_;
  std::deque<Pending> pending_;
};

}  // namespace vmm
