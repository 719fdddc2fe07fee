// SPDX-License-Identifier: Apache-2.0
//
// One thread that waits for everything: readiness of descriptors, timers, file I/O, and work posted by
// others. Two engines behind one interface: io_uring, where a turn of the loop is one system call however
// much it did, and epoll with file I/O done in place, where the host forbids io_uring.
//
// Everything runs on the loop's thread except where said otherwise. Before run() is called, the thread that
// owns the loop may set it up.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "vmm/core/batch_policy.h"
#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm {

// One operation on a file, as the loop hands it to the kernel.
struct FileOp {
  enum class Kind : uint8_t { readv, writev, fdatasync, fallocate };
  Kind kind = Kind::readv;
  int fd = -1;
  std::span<const iovec> buffers = {};  // readv, writev: at most 1024; must stay valid until completion
  uint64_t offset = 0;                  // bytes
  uint64_t length = 0;                  // fallocate: bytes
  int mode = 0;                         // fallocate: FALLOC_FL_*
};

// Told the result of a FileOp exactly once, on the loop's thread: bytes moved, or -errno. Never called from
// within submit(). Must stay alive until then.
class IoCompletion {
 public:
  virtual ~IoCompletion() = default;
  virtual void complete(int32_t result) = 0;
};

// Whoever has work in turn after turn, and may see more of it in memory before an event tells: a queue shared
// with a guest. While it is busy it needs no events. All calls come from the loop.
class Busy {
 public:
  virtual ~Busy() = default;
  // What had come has been handled, and no more is to be seen just now: what belongs together can be
  // published.
  virtual void end_turn() = 0;
  // Has more work come? Then it has been begun.
  virtual bool look() = 0;
  // The loop is about to sleep: events are on from here on. True if work came in between, and has been begun.
  virtual bool rest() = 0;
};

class EventLoop {
 public:
  enum class Engine : uint8_t { any, io_uring, epoll };
  using Handler = std::function<void(uint32_t events)>;

  // `any` is io_uring where the host allows it, else epoll.
  static Result<std::unique_ptr<EventLoop>> create(Engine engine = Engine::any);

  virtual ~EventLoop() = default;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Stops watching when it goes; a handler that is on its way is not called after that.
  class Watch {
   public:
    Watch() = default;
    Watch(EventLoop& loop, uint64_t id) : loop_(&loop), id_(id) {}
    Watch(Watch&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {}
    Watch& operator=(Watch&& other) noexcept;
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() { reset(); }
    void reset();
    explicit operator bool() const { return loop_ != nullptr; }

   private:
    EventLoop* loop_ = nullptr;
    uint64_t id_ = 0;
  };

  // Calls `handler` each time `fd` is ready for any of `events` (EPOLLIN, EPOLLOUT, …), as long as it is
  // ready (level-triggered). EPOLLERR and EPOLLHUP are always reported. The descriptor must outlive the
  // watch.
  [[nodiscard]] virtual Watch watch(int fd, uint32_t events, Handler handler) = 0;

  // Calls `handler` when `bell` has been rung, once however often it was; the count has been taken. The bell
  // must outlive the watch.
  [[nodiscard]] virtual Watch watch_bell(const EventFd& bell, std::function<void()> handler) = 0;

  // Rings `bell`, at the latest when this turn of the loop ends, and with the same system call as all else
  // that the turn submits. The bell must stay open until then, or until a flush().
  virtual void ring(const EventFd& bell) = 0;
  // Hands to the kernel now what would wait for the end of the turn.
  virtual void flush() = 0;

  // From here on `who` is asked at the end of each turn, until it may rest, or until done_with(). While
  // anybody is busy the loop looks again for a while before it sleeps: up to 200 us, as long as looking has
  // been worth it lately.
  void keep_busy(Busy& who);
  void done_with(const Busy& who);

  // So many requests of a guest, or for it, have been taken up: whether many come together decides how the
  // loop's thread is scheduled (batch_policy.h). submit() counts as one.
  void took(unsigned requests) { taken_ += requests; }

  // Hands `op` to the kernel, at the latest when this turn of the loop ends.
  virtual void submit(const FileOp& op, IoCompletion& completion) = 0;

  [[nodiscard]] virtual Engine engine() const = 0;

  // Any thread: runs `work` on the loop's thread, later, in order of posting.
  void post(std::function<void()> work);
  // Any thread: runs it at once on the loop's own thread, else posts it.
  void run_or_post(std::function<void()> work);
  // Any other thread, while the loop runs: the same as post(), and waits until it has run.
  void call(const std::function<void()>& work);
  // Any thread: run() returns after the current turn.
  void stop();

  // Runs until stop(). Work posted before stop() has run by then.
  void run();

  [[nodiscard]] bool on_loop_thread() const { return thread_.load() == std::this_thread::get_id(); }

 protected:
  explicit EventLoop(EventFd wake);

  // Submits what is queued, waits for something to do, and calls what is due.
  virtual void turn() = 0;
  // For turn(), first of all: true if somebody busy has found work. If not, or not for ever, turns end.
  bool look_or_end_turn();
  // For turn(). How long to look for work before sleeping; zero while nobody is busy, or on a single CPU.
  [[nodiscard]] std::chrono::nanoseconds patience() const;
  // True if somebody busy has found work.
  bool look();
  // The loop may sleep unless this is true: somebody busy has found work after all.
  bool rest();
  // The loop is about to sleep.
  void choose_policy();
  // There was work after so long a wait, awake and asleep.
  void waited(std::chrono::nanoseconds time);
  virtual void unwatch(uint64_t id) = 0;

 private:
  void run_posted();
  void end_turn();

  EventFd wake_;
  std::vector<Busy*> busy_;  // the loop's; none where it left during a call
  unsigned looked_ = 0;      // turns with work in a row, none of which was ended
  bool rested_ = false;      // the loop sleeps after somebody was busy
  const bool alone_;         // on one CPU: looking again would keep from working whoever makes the work
  std::chrono::nanoseconds patience_{0};
  BatchPolicy policy_;
  unsigned taken_ = 0;           // requests, since the loop last slept
  bool chooses_policy_ = false;  // SCHED_OTHER or SCHED_BATCH
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by mutex_
  std::atomic<bool> stop_{false};
  std::atomic<std::thread::id> thread_{};
};

// Calls a handler once, after a time. Belongs to the loop's thread.
class Timer {
 public:
  static Result<Timer> create(EventLoop& loop, std::function<void()> handler);

  void arm(std::chrono::nanoseconds after);  // replaces an earlier time; at least 1 ns
  void disarm();

 private:
  struct State;
  explicit Timer(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;  // shared with the watch's handler, which may outlive a move of the Timer
};

}  // namespace vmm
