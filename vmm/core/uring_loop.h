// SPDX-License-Identifier: Apache-2.0
//
// The event loop on one io_uring: bells are read and rung, descriptors polled, and files read and written, by
// entries of the same ring, so that a turn is one io_uring_enter(2).
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
  Watch watch_bell(const EventFd& bell, std::function<void()> handler) override;
  void ring(const EventFd& bell) override;
  void flush() override;
  void submit(const FileOp& op, IoCompletion& completion) override;
  [[nodiscard]] Engine engine() const override { return Engine::io_uring; }

 protected:
  void turn() override;
  void unwatch(uint64_t id) override;

 private:
  static constexpr uint32_t kBell = ~0U;  // no set of events: it is read
  // Bells are entries of the ring where the kernel can leave out the completion of an entry (Linux 5.17):
  // that of a ring would wake us for nothing.
  [[nodiscard]] bool bells_are_entries() const { return (ring_.features & IORING_FEAT_CQE_SKIP) != 0; }

  struct Watched {
    int fd;
    uint32_t events;
    std::shared_ptr<Handler> handler;  // shared: a handler may end its own watch while it runs
  };

  explicit UringLoop(EventFd wake) : EventLoop(std::move(wake)) {}
  int open(unsigned flags);  // 0 or -errno
  io_uring_sqe* next_entry();
  void arm(uint64_t id, const Watched& watched);
  [[nodiscard]] bool ready();
  [[nodiscard]] bool look_for(std::chrono::nanoseconds patience);
  void harvest();
  void dispatch(uint64_t tag, int32_t result);

  io_uring ring_{};
  bool transfers_queued_ = false;  // since the last submission
  uint64_t rung_ = 0;              // where all bells' counts are read to; nobody looks at them
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Watched> watched_;
};

}  // namespace vmm
