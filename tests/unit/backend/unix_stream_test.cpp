// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/unix_stream.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

class UnixStreamTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  UnixStreamTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    program_ = Fd{ends[1]};
    stream_ = std::make_unique<UnixStream>(*loop_, Fd{ends[0]});
    stream_->set_changed([this] { ++changes_; });
    loop_.start();
  }
  ~UnixStreamTest() override {
    loop_->call([this] { stream_.reset(); });
    loop_.stop();
  }

  template <typename Act>
  auto on_loop(Act act) {
    using Value = decltype(act());
    if constexpr (std::is_void_v<Value>) {
      loop_->call(act);
    } else {
      Value value{};
      loop_->call([&] { value = act(); });
      return value;
    }
  }
  void write(std::string text) {
    on_loop([&] {
      const std::array parts{iovec{text.data(), text.size() / 2},
                             iovec{text.data() + text.size() / 2, text.size() - text.size() / 2}};
      stream_->write(parts);
    });
  }
  // What read() says, and what it read.
  std::pair<ptrdiff_t, std::string> read(size_t most = 4096) {
    std::string text(most, '\0');
    const auto count = on_loop([&] {
      const std::array parts{iovec{text.data(), 1}, iovec{text.data() + 1, most - 1}};
      return stream_->read(parts);
    });
    text.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return {count, text};
  }
  bool becomes_readable() {
    return eventually([&] { return on_loop([&] { return stream_->readable(); }); });
  }
  // All that the program gets until the end, or nothing comes for a while.
  std::string taken(std::chrono::milliseconds patience = std::chrono::seconds{5}) {
    std::string text;
    std::array<char, 65536> bytes;
    pollfd ready{.fd = program_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&ready, 1, static_cast<int>(patience.count())) == 1) {
      const auto count = ::read(program_.get(), bytes.data(), bytes.size());
      if (count <= 0) break;
      text.append(bytes.data(), static_cast<size_t>(count));
    }
    return text;
  }

  RunningLoop loop_{GetParam()};
  Fd program_;
  std::unique_ptr<UnixStream> stream_;
  std::atomic<int> changes_{0};
};

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

TEST_P(UnixStreamTest, Reads) {
  EXPECT_EQ(read().first, -EAGAIN);
  EXPECT_EQ(::write(program_.get(), "hello", 5), 5);
  ASSERT_TRUE(becomes_readable());
  EXPECT_EQ(read(3).second, "hel");
  EXPECT_EQ(read().second, "lo");
  EXPECT_EQ(read().first, -EAGAIN);
  EXPECT_FALSE(on_loop([&] { return stream_->readable(); }));
  EXPECT_EQ(::write(program_.get(), "!", 1), 1);
  ASSERT_TRUE(becomes_readable());
  EXPECT_EQ(read().second, "!");
}

TEST_P(UnixStreamTest, WhatNobodyReadsKeepsNobodyBusy) {
  EXPECT_EQ(::write(program_.get(), "x", 1), 1);
  ASSERT_TRUE(becomes_readable());
  std::this_thread::sleep_for(std::chrono::milliseconds{20});
  const int before = changes_;
  std::this_thread::sleep_for(std::chrono::milliseconds{50});
  EXPECT_EQ(changes_, before);
  EXPECT_LE(before, 2);
}

TEST_P(UnixStreamTest, ASlowProgramGetsAllInOrder) {
  const auto text = pattern(3'000'000);
  write(text.substr(0, 2'000'000));
  write(text.substr(2'000'000));
  EXPECT_GT(on_loop([&] { return stream_->kept(); }), 1'000'000U);
  on_loop([&] { stream_->end_output(); });
  EXPECT_EQ(taken(), text);  // up to the end
  EXPECT_EQ(on_loop([&] { return stream_->kept(); }), 0U);
  // The other direction is still open.
  EXPECT_EQ(::write(program_.get(), "y", 1), 1);
  ASSERT_TRUE(becomes_readable());
  EXPECT_EQ(read().second, "y");
}

TEST_P(UnixStreamTest, TheProgramsEnd) {
  EXPECT_EQ(::write(program_.get(), "last", 4), 4);
  ::shutdown(program_.get(), SHUT_WR);
  ASSERT_TRUE(becomes_readable());
  EXPECT_EQ(read().second, "last");
  EXPECT_EQ(read().first, 0);
  EXPECT_EQ(read().first, 0);
  EXPECT_FALSE(on_loop([&] { return stream_->broken(); }));
  write("answer");
  EXPECT_EQ(taken(std::chrono::milliseconds{50}), "answer");
  const int before = changes_;
  program_ = Fd{};
  EXPECT_TRUE(eventually([&] { return on_loop([&] { return stream_->broken(); }); }));
  EXPECT_GT(changes_, before);
}

TEST_P(UnixStreamTest, WhatWasWrittenBeforeTheProgramWentIsRead) {
  EXPECT_EQ(::write(program_.get(), "bye", 3), 3);
  program_ = Fd{};
  EXPECT_TRUE(eventually([&] { return on_loop([&] { return stream_->broken(); }); }));
  EXPECT_EQ(read().second, "bye");
  EXPECT_EQ(read().first, 0);
  write("nobody hears");
  EXPECT_EQ(on_loop([&] { return stream_->kept(); }), 0U);
}

TEST_P(UnixStreamTest, AProgramThatGoesInTheMiddle) {
  write(pattern(2'000'000));
  EXPECT_GT(on_loop([&] { return stream_->kept(); }), 0U);
  program_ = Fd{};
  EXPECT_TRUE(eventually([&] { return on_loop([&] { return stream_->broken(); }); }));
  EXPECT_EQ(on_loop([&] { return stream_->kept(); }), 0U);
  EXPECT_LE(read().first, 0) << "its end, or an error, as it left something unread";
}

TEST_P(UnixStreamTest, NoMoreInput) {
  on_loop([&] { stream_->end_input(); });
  EXPECT_EQ(::send(program_.get(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(read().first, 0);
  write("still");
  EXPECT_EQ(taken(std::chrono::milliseconds{50}), "still");
}

TEST_P(UnixStreamTest, MayBeDestroyedByWhatItTells) {
  on_loop([&] { stream_->set_changed([this] { stream_.reset(); }); });
  EXPECT_EQ(::write(program_.get(), "x", 1), 1);
  EXPECT_TRUE(eventually([&] { return on_loop([&] { return stream_ == nullptr; }); }));
  EXPECT_EQ(taken(), "");
}

INSTANTIATE_TEST_SUITE_P(Engines, UnixStreamTest,
                         testing::Values(EventLoop::Engine::any, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::any ? "any" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
