// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/event_loop.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <future>
#include <string>

#include <gtest/gtest.h>

namespace vmm {
namespace {

using namespace std::chrono_literals;

// Every case runs on both engines; a host without io_uring skips those and says so.
class EventLoopTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create(GetParam());
    if (!loop && GetParam() == EventLoop::Engine::io_uring) GTEST_SKIP() << loop.error().message;
    ASSERT_TRUE(loop) << loop.error().message;
    loop_ = std::move(*loop);
  }
  std::unique_ptr<EventLoop> loop_;
};

TEST_P(EventLoopTest, PostedWorkRunsInOrderBeforeStop) {
  std::vector<int> seen;
  loop_->post([&] { seen.push_back(1); });
  loop_->post([&] { seen.push_back(2); });
  loop_->stop();
  loop_->run();
  EXPECT_EQ(seen, (std::vector{1, 2}));
}

TEST_P(EventLoopTest, WatchIsLevelTriggered) {
  auto bell = EventFd::create();
  ASSERT_TRUE(bell);
  int calls = 0;
  const auto watch = loop_->watch(bell->get(), EPOLLIN, [&](uint32_t events) {
    EXPECT_TRUE(events & EPOLLIN);
    if (++calls < 3) return;  // left ready: must be called again
    EXPECT_TRUE(bell->drain());
    loop_->stop();
  });
  bell->signal();
  loop_->run();
  EXPECT_EQ(calls, 3);
}

TEST_P(EventLoopTest, HandlerMayEndItsOwnWatch) {
  auto bell = EventFd::create();
  ASSERT_TRUE(bell);
  int calls = 0;
  EventLoop::Watch watch;
  watch = loop_->watch(bell->get(), EPOLLIN, [&](uint32_t) {
    ++calls;
    watch.reset();
    loop_->post([&] { loop_->stop(); });
  });
  bell->signal();
  loop_->run();
  EXPECT_EQ(calls, 1);
}

TEST_P(EventLoopTest, EndedWatchReleasesTheFile) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd reader{ends[0]};
  Fd writer{ends[1]};
  auto watch = loop_->watch(reader.get(), EPOLLIN, [](uint32_t) {});
  loop_->post([&] { watch.reset(); });
  loop_->post([&] { reader = Fd{}; });
  loop_->post([&] { loop_->stop(); });
  loop_->run();
  // With the read end gone a write is refused. A poll that still held the file would let it through.
  ::signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(::write(writer.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(EventLoopTest, AWatchForNothingHearsTheEndAndTakesNoData) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const Fd reader{ends[0]};
  Fd writer{ends[1]};
  uint32_t heard = 0;
  EventLoop::Watch watch;
  watch = loop_->watch(reader.get(), 0, [&](uint32_t events) {
    heard = events;
    watch.reset();
    loop_->stop();
  });
  ASSERT_EQ(::write(writer.get(), "x", 1), 1);
  loop_->post([&] { loop_->post([&] { writer = Fd{}; }); });
  loop_->run();
  EXPECT_EQ(heard & (EPOLLHUP | EPOLLIN), static_cast<uint32_t>(EPOLLHUP));
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 1);
}

struct Result32 : IoCompletion {
  explicit Result32(std::function<void(int32_t)> then) : then_(std::move(then)) {}
  void complete(int32_t result) override { then_(result); }
  std::function<void(int32_t)> then_;
};

TEST_P(EventLoopTest, FileOperations) {
  const Fd file{::memfd_create("file", MFD_CLOEXEC)};
  ASSERT_TRUE(file);
  std::string out = "hello";
  std::string in(5, ' ');
  const iovec from{out.data(), out.size()};
  const iovec into{in.data(), in.size()};
  std::vector<int32_t> results;
  Result32 read_done{[&](int32_t r) {
    results.push_back(r);
    loop_->stop();
  }};
  Result32 sync_done{[&](int32_t r) {
    results.push_back(r);
    loop_->submit({.kind = FileOp::Kind::readv, .fd = file.get(), .buffers = {&into, 1}, .offset = 4096},
                  read_done);
  }};
  Result32 write_done{[&](int32_t r) {
    results.push_back(r);
    loop_->submit({.kind = FileOp::Kind::fdatasync, .fd = file.get()}, sync_done);
  }};
  loop_->post([&] {
    loop_->submit({.kind = FileOp::Kind::writev, .fd = file.get(), .buffers = {&from, 1}, .offset = 4096},
                  write_done);
  });
  loop_->run();
  EXPECT_EQ(results, (std::vector{5, 0, 5}));
  EXPECT_EQ(in, "hello");
}

TEST_P(EventLoopTest, FileErrorIsReported) {
  int32_t result = 0;
  Result32 done{[&](int32_t r) {
    result = r;
    loop_->stop();
  }};
  loop_->post([&] { loop_->submit({.kind = FileOp::Kind::fdatasync, .fd = -1}, done); });
  loop_->run();
  EXPECT_EQ(result, -EBADF);
}

TEST_P(EventLoopTest, CallWaits) {
  std::jthread runner{[&] { loop_->run(); }};
  std::thread::id ran_on;
  loop_->call([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, runner.get_id());
  loop_->stop();
}

TEST_P(EventLoopTest, TimerFiresOncePerArming) {
  int fired = 0;
  auto timer = Timer::create(*loop_, [&] {
    ++fired;
    loop_->stop();
  });
  ASSERT_TRUE(timer);
  timer->arm(1h);
  timer->arm(1ms);
  loop_->run();
  EXPECT_EQ(fired, 1);
}

TEST_P(EventLoopTest, BellIsHeardOnceForAllItsRings) {
  auto bell = EventFd::create();
  auto other = EventFd::create();
  ASSERT_TRUE(bell && other);
  int heard = 0;
  const auto watch = loop_->watch_bell(*bell, [&] {
    if (++heard == 1) {
      loop_->ring(*bell);  // by the loop itself, with the next turn
    } else {
      loop_->ring(*other);
      loop_->stop();
    }
  });
  bell->signal();
  bell->signal();
  loop_->run();
  EXPECT_EQ(heard, 2);
  EXPECT_FALSE(bell->drain());  // the count has been taken
  EXPECT_TRUE(other->drain());  // nothing stays behind when the loop ends
}

TEST_P(EventLoopTest, FlushRingsAtOnce) {
  auto bell = EventFd::create();
  ASSERT_TRUE(bell);
  loop_->post([&] {
    loop_->ring(*bell);
    loop_->flush();
    EXPECT_TRUE(bell->drain());
    loop_->stop();
  });
  loop_->run();
}

// Somebody who finds work for a few turns, and then one last piece when the loop is about to sleep.
struct BusyForAWhile final : Busy {
  void end_turn() override { calls.push_back('e'); }
  bool look() override {
    if (work == 0) return false;
    --work;
    calls.push_back('l');
    return true;
  }
  bool rest() override {
    calls.push_back('r');
    const bool found = std::exchange(late, false);
    if (!found) when_resting();
    return found;
  }
  int work = 0;
  bool late = false;
  std::string calls;
  std::function<void()> when_resting;
};

TEST_P(EventLoopTest, TheBusyAreAskedUntilTheyRest) {
  BusyForAWhile busy;
  busy.work = 3;
  busy.late = true;
  busy.when_resting = [&] { loop_->stop(); };
  loop_->post([&] { loop_->keep_busy(busy); });
  loop_->run();
  // Held back while there is more; ended before the loop may sleep, and after the last piece.
  EXPECT_EQ(busy.calls, "lllerer");
}

TEST_P(EventLoopTest, WhatIsHeldBackIsNotHeldForEver) {
  BusyForAWhile busy;
  busy.work = 1000;
  busy.when_resting = [&] { loop_->stop(); };
  loop_->post([&] { loop_->keep_busy(busy); });
  loop_->run();
  EXPECT_GT(std::ranges::count(busy.calls, 'e'), 100);
  // Other events are heard meanwhile: the loop's own end was one.
}

TEST_P(EventLoopTest, WhoIsDoneIsNotAsked) {
  BusyForAWhile busy;
  busy.when_resting = [] {};
  loop_->post([&] {
    loop_->keep_busy(busy);
    loop_->done_with(busy);
    loop_->stop();
  });
  loop_->run();
  EXPECT_EQ(busy.calls, "");
}

// Requests that come together are waited for, and the thread that ran the loop is left as it was.
TEST_P(EventLoopTest, ManyRequestsChooseThePolicyWhileTheLoopRuns) {
  if (::sched_getscheduler(0) != SCHED_OTHER) GTEST_SKIP() << "this process has another scheduling policy";
  for (int round = 0; round < 2; ++round) {
    int left = 1000;
    int batched = 0;
    std::function<void()> work = [&] {
      loop_->took(10);
      batched += ::sched_getscheduler(0) == SCHED_BATCH ? 1 : 0;
      if (--left == 0) return loop_->stop();
      loop_->post(work);
    };
    loop_->post(work);
    loop_->run();
    EXPECT_GT(batched, 500);
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, EventLoopTest,
                         testing::Values(EventLoop::Engine::io_uring, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::io_uring ? "io_uring" : "epoll";
                         });

}  // namespace
}  // namespace vmm
