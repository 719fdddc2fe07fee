// SPDX-License-Identifier: Apache-2.0
//
// The event loop on one io_uring: descriptors are polled, and files read and written, by entries of the same
// ring, so that a turn is one io_uring_enter(2).
#pragma once

#include <liburing.h>

#include <unordered_map>

#include "vmm/core/event_loop.h"

namespace vmm {

class UringLoop final : public EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> create(EventFd wake);
  ~UringLoop() override;

  Watch watch(int fd, uint32_t events, Handler handler) override;
  void submit(const FileOp& op, IoCompletion& completion) override;
  [[nodiscard]] Engine engine() const override { return Engine::io_uring; }

 protected:
  void turn() override;
  void unwatch(uint64_t id) override;

 private:
  struct Watched {
    int fd;
    uint32_t events;
    std::shared_ptr<Handler> handler;  // shared: a handler may end its own watch while it runs
  };

  explicit UringLoop(EventFd wake) : EventLoop(std::move(wake)) {}
  io_uring_sqe* next_entry();
  void poll(uint64_t id, const Watched& watched);
  void dispatch(uint64_t tag, int32_t result);

  io_uring ring_{};
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Watched> watched_;
};

}  // namespace vmm
