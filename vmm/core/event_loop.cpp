// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/event_loop.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <condition_variable>

#include "vmm/core/epoll_loop.h"
#include "vmm/core/uring_loop.h"

namespace vmm {

Result<std::unique_ptr<EventLoop>> EventLoop::create(Engine engine) {
  VMM_TRY_ASSIGN(auto wake, EventFd::create());
  if (engine != Engine::epoll) {
    auto loop = UringLoop::create(std::move(wake));
    if (loop || engine == Engine::io_uring) return loop;
    VMM_TRY_ASSIGN(wake, EventFd::create());
  }
  return EpollLoop::create(std::move(wake));
}

EventLoop::Watch& EventLoop::Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    reset();
    loop_ = std::exchange(other.loop_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

void EventLoop::Watch::reset() {
  if (loop_ != nullptr) std::exchange(loop_, nullptr)->unwatch(id_);
}

void EventLoop::post(std::function<void()> work) {
  {
    const std::lock_guard lock{mutex_};
    posted_.push_back(std::move(work));
  }
  wake_.signal();
}

void EventLoop::call(const std::function<void()>& work) {
  assert(!on_loop_thread());
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  post([&] {
    work();
    // Notified under the lock: the waiter's condition variable must not go while it is being notified.
    const std::lock_guard lock{mutex};
    done = true;
    done_changed.notify_one();
  });
  std::unique_lock lock{mutex};
  done_changed.wait(lock, [&] { return done; });
}

void EventLoop::stop() {
  stop_.store(true);
  wake_.signal();
}

void EventLoop::run() {
  thread_.store(std::this_thread::get_id());
  const auto wake = watch(wake_.get(), EPOLLIN, [this](uint32_t) {
    if (wake_.drain()) run_posted();
  });
  while (!stop_.load()) turn();
  run_posted();
  stop_.store(false);
  thread_.store({});
}

void EventLoop::run_posted() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock{mutex_};
    work.swap(posted_);
  }
  for (auto& item : work) item();
}

struct Timer::State {
  Fd fd;
  std::function<void()> handler;
  EventLoop::Watch watch;
};

Result<Timer> Timer::create(EventLoop& loop, std::function<void()> handler) {
  auto state = std::make_shared<State>();
  state->fd = Fd{::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
  if (!state->fd) return fail(errno, "create a timer");
  state->handler = std::move(handler);
  state->watch = loop.watch(state->fd.get(), EPOLLIN, [weak = std::weak_ptr{state}](uint32_t) {
    const auto timer = weak.lock();
    uint64_t expirations = 0;
    if (timer && ::read(timer->fd.get(), &expirations, sizeof expirations) > 0) timer->handler();
  });
  return Timer{std::move(state)};
}

void Timer::arm(std::chrono::nanoseconds after) {
  const auto count = std::max<int64_t>(after.count(), 1);
  const itimerspec spec{.it_interval = {}, .it_value = {count / 1'000'000'000, count % 1'000'000'000}};
  ::timerfd_settime(state_->fd.get(), 0, &spec, nullptr);
}

void Timer::disarm() {
  const itimerspec never{};
  ::timerfd_settime(state_->fd.get(), 0, &never, nullptr);
}

}  // namespace vmm
