// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/event_loop.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <condition_variable>

#include "vmm/core/epoll_loop.h"
#include "vmm/core/uring_loop.h"

namespace vmm {
namespace {

// As KVM's own halt polling (Documentation/virt/kvm/halt-polling.rst): what is worth waiting for without
// sleeping is found out step by step, between these.
constexpr std::chrono::microseconds kLeastPatience{10};
constexpr std::chrono::microseconds kMostPatience{200};

// While more work comes, what has been done is held back, to be published together; but not for longer than
// so many turns.
constexpr unsigned kMostLooks = 8;

// Whether this process may run on one CPU only.
bool has_one_cpu() {
  cpu_set_t cpus;
  return ::sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) == 1;
}

void set_policy(int policy) {
  const sched_param none{};
  ::sched_setscheduler(0, policy, &none);
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create(Engine engine) {
  VMM_TRY_ASSIGN(auto wake, EventFd::create());
  if (engine != Engine::epoll) {
    auto loop = UringLoop::create(std::move(wake));
    if (loop || engine == Engine::io_uring) return loop;
    VMM_TRY_ASSIGN(wake, EventFd::create());
  }
  return EpollLoop::create(std::move(wake));
}

EventLoop::EventLoop(EventFd wake) : wake_(std::move(wake)), alone_(has_one_cpu()) {}

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

void EventLoop::run_or_post(std::function<void()> work) {
  if (on_loop_thread()) return work();
  post(std::move(work));
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
  chooses_policy_ = ::sched_getscheduler(0) == SCHED_OTHER;  // another is the user's choice
  const auto wake = watch_bell(wake_, [this] { run_posted(); });
  wake_.signal();  // for what was posted before
  while (!stop_.load()) {
    turn();
  }
  run_posted();
  end_turn();
  flush();
  // The thread is left as it was found: it may run this loop again.
  if (chooses_policy_ && policy_.batch()) set_policy(SCHED_OTHER);
  policy_ = {};
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

void EventLoop::keep_busy(Busy& who) {
  if (std::ranges::find(busy_, &who) == busy_.end()) busy_.push_back(&who);
}

void EventLoop::done_with(const Busy& who) {
  std::ranges::replace(busy_, const_cast<Busy*>(&who), nullptr);  // not erased: somebody may be walking
}

// By index, for whoever is asked may add others.
void EventLoop::end_turn() {
  for (size_t i = 0; i < busy_.size(); ++i) {
    if (busy_[i] != nullptr) busy_[i]->end_turn();
  }
  std::erase(busy_, nullptr);
}

void EventLoop::choose_policy() {
  const bool before = policy_.batch();
  const bool batch = policy_.sleeps_after(std::exchange(taken_, 0));
  if (chooses_policy_ && batch != before) set_policy(batch ? SCHED_BATCH : SCHED_OTHER);
}

std::chrono::nanoseconds EventLoop::patience() const {
  return busy_.empty() || alone_ ? std::chrono::nanoseconds{0} : patience_;
}

bool EventLoop::look() {
  bool found = false;
  for (size_t i = 0; i < busy_.size(); ++i) found |= busy_[i] != nullptr && busy_[i]->look();
  return found;
}

bool EventLoop::look_or_end_turn() {
  if (busy_.empty()) return false;
  const bool work = look();
  looked_ = work ? looked_ + 1 : 0;
  if (!work || looked_ >= kMostLooks) {
    looked_ = 0;
    end_turn();
  }
  return work;
}

bool EventLoop::rest() {
  bool found = false;
  for (size_t i = 0; i < busy_.size(); ++i) {
    if (busy_[i] == nullptr) continue;
    rested_ = true;
    if (busy_[i]->rest()) {
      found = true;
    } else {
      busy_[i] = nullptr;
    }
  }
  std::erase(busy_, nullptr);
  return found;
}

void EventLoop::waited(std::chrono::nanoseconds time) {
  if (!std::exchange(rested_, false)) return;
  if (time > kMostPatience) {
    patience_ = patience_ / 2 < kLeastPatience ? std::chrono::nanoseconds{0} : patience_ / 2;
  } else if (time > patience_) {
    patience_ = std::clamp<std::chrono::nanoseconds>(patience_ * 2, kLeastPatience, kMostPatience);
  }
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
