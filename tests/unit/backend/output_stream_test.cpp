// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/output_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

// Text in which a lost, doubled or displaced byte shows.
std::string numbers(size_t length) {
  std::string text;
  for (int i = 0; text.size() < length; ++i) text += std::to_string(i) + ' ';
  text.resize(length);
  return text;
}

class OutputStreamTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  OutputStreamTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    reader_ = Fd{ends[0]};
    writer_ = Fd{ends[1]};
    ignore_broken_pipes();
  }

  StreamFd pipe() { return *StreamFd::borrow(writer_.get(), StreamFd::Access::write); }

  std::string read(size_t length) {
    std::string text(length, '\0');
    size_t done = 0;
    while (done < length) {
      const auto count = ::read(reader_.get(), text.data() + done, length - done);
      if (count <= 0) break;
      done += static_cast<size_t>(count);
    }
    text.resize(done);
    return text;
  }

  Fd reader_;
  Fd writer_;
  RunningLoop loop_{GetParam()};
};

TEST_P(OutputStreamTest, WritesAtOnceWhatFits) {
  OutputStream output{*loop_};
  output.attach(pipe());
  output.write(bytes_of("hello"));  // the loop does not even run
  EXPECT_EQ(read(5), "hello");
}

TEST_P(OutputStreamTest, KeepsOrderForASlowReader) {
  OutputStream output{*loop_};
  output.attach(pipe());
  loop_.start();
  const auto text = numbers(500'000);  // several times what a pipe holds
  for (size_t at = 0; at < text.size(); at += 777)
    output.write(bytes_of(text).subspan(at, std::min<size_t>(777, text.size() - at)));
  EXPECT_EQ(read(text.size()), text);
  EXPECT_EQ(output.dropped(), 0U);
  loop_.stop();
}

TEST_P(OutputStreamTest, DropsAndCountsBeyondTheBound) {
  OutputStream output{*loop_, OutputStream::Broken::drop, 1000};
  output.attach(pipe());
  ASSERT_EQ(::fcntl(writer_.get(), F_SETPIPE_SZ, 4096), 4096);
  loop_.start();
  const auto text = numbers(10'000);
  output.write(bytes_of(text));
  EXPECT_EQ(output.dropped(), 10'000U - 4096 - 1000);
  EXPECT_EQ(read(5096), text.substr(0, 5096));
  loop_.stop();
}

TEST_P(OutputStreamTest, ReaderThatGoesAwayIsCountedNotFatal) {
  OutputStream output{*loop_};
  output.attach(pipe());
  loop_.start();
  output.write(bytes_of(numbers(200'000)));
  reader_ = Fd{};
  EXPECT_TRUE(eventually([&] { return output.dropped() > 0; }));
  const auto before = output.dropped();
  output.write(bytes_of("x"));
  EXPECT_EQ(output.dropped(), before + 1);
  loop_.stop();
}

TEST_P(OutputStreamTest, ReaderThatGoesAwayMayHaveASuccessor) {
  OutputStream output{*loop_, OutputStream::Broken::keep_for_next};
  output.attach(pipe());
  reader_ = Fd{};
  output.write(bytes_of("one "));
  output.write(bytes_of("two"));
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  reader_ = Fd{ends[0]};
  writer_ = Fd{ends[1]};
  output.attach(pipe());
  EXPECT_EQ(read(7), "one two");
  EXPECT_EQ(output.dropped(), 0U);
}

TEST_P(OutputStreamTest, WithoutAStreamTheLatestIsKept) {
  OutputStream output{*loop_, OutputStream::Broken::drop, 10};
  output.write(bytes_of("0123456789"));
  output.write(bytes_of("abc"));
  EXPECT_EQ(output.dropped(), 3U);
  output.attach(pipe());
  EXPECT_EQ(read(10), "3456789abc");
  output.detach();
  output.write(bytes_of("a long line of which the end is kept"));
  output.attach(pipe());
  EXPECT_EQ(read(10), "nd is kept");
}

TEST_P(OutputStreamTest, TheEndIsWrittenBeforeItGoes) {
  const auto text = numbers(300'000);
  std::string got;
  std::jthread reader{[&] { got = read(text.size()); }};
  {
    OutputStream output{*loop_};
    output.attach(pipe());
    output.write(bytes_of(text));
  }
  reader.join();
  EXPECT_EQ(got, text);
}

TEST_P(OutputStreamTest, AReaderThatStoppedHoldsTheEndForASecondAtMost) {
  const auto start = std::chrono::steady_clock::now();
  {
    OutputStream output{*loop_};
    output.attach(pipe());
    output.write(bytes_of(numbers(300'000)));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds{5});
}

TEST_P(OutputStreamTest, ThreadsMayWriteWhileTheLoopDrains) {
  OutputStream output{*loop_};
  output.attach(pipe());
  loop_.start();
  constexpr size_t kEach = 40'000;
  {
    std::jthread one{[&] {
      for (size_t i = 0; i < kEach; ++i) output.write(bytes_of("1"));
    }};
    std::jthread two{[&] {
      for (size_t i = 0; i < kEach; ++i) output.write(bytes_of("2"));
    }};
    const auto got = read(2 * kEach);
    EXPECT_EQ(static_cast<size_t>(std::count(got.begin(), got.end(), '1')), kEach);
  }
  EXPECT_EQ(output.dropped(), 0U);
  loop_.stop();
}

INSTANTIATE_TEST_SUITE_P(Engines, OutputStreamTest,
                         testing::Values(EventLoop::Engine::any, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::any ? "any" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
