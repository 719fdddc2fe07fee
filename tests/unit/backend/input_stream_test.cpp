// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/input_stream.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <optional>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

// A device that takes up to `room` bytes until it is given more room.
class Device {
 public:
  Console::Input input() {
    return [this](std::span<const std::byte> bytes) {
      const std::lock_guard lock{mutex_};
      ++offers_;
      const size_t taken = std::min(room_, bytes.size());
      room_ -= taken;
      text_.append(reinterpret_cast<const char*>(bytes.data()), taken);
      return taken;
    };
  }
  void give_room(size_t room) {
    const std::lock_guard lock{mutex_};
    room_ += room;
  }
  std::string text() {
    const std::lock_guard lock{mutex_};
    return text_;
  }
  int offers() {
    const std::lock_guard lock{mutex_};
    return offers_;
  }

 private:
  std::mutex mutex_;
  size_t room_ = 0;
  int offers_ = 0;
  std::string text_;
};

class InputStreamTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  InputStreamTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    reader_ = Fd{ends[0]};
    writer_ = Fd{ends[1]};
  }
  StreamFd pipe() { return *StreamFd::borrow(reader_.get(), StreamFd::Access::read); }
  void send(std::string_view text) {
    ASSERT_EQ(::write(writer_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  Fd reader_;
  Fd writer_;
  Device device_;
  RunningLoop loop_{GetParam()};
};

TEST_P(InputStreamTest, DeliversAndWaitsForRoom) {
  InputStream stream{*loop_, pipe(), {}};
  device_.give_room(3);
  stream.set_input(device_.input());
  loop_.start();
  send("hello");
  EXPECT_TRUE(eventually([&] { return device_.text() == "hel"; }));
  device_.give_room(100);
  stream.resume();
  EXPECT_TRUE(eventually([&] { return device_.text() == "hello"; }));
  send(" again");
  EXPECT_TRUE(eventually([&] { return device_.text() == "hello again"; }));
  loop_.stop();
}

TEST_P(InputStreamTest, AFullDeviceIsLeftInPeaceAndNothingIsRead) {
  InputStream stream{*loop_, pipe(), {}};
  stream.set_input(device_.input());
  loop_.start();
  send("x");
  EXPECT_TRUE(eventually([&] { return device_.offers() == 1; }));
  send(std::string(10'000, 'y'));
  writer_ = Fd{};  // a hang-up, which polls ready whatever one asks for
  std::this_thread::sleep_for(std::chrono::milliseconds{50});
  EXPECT_EQ(device_.offers(), 1);
  int unread = 0;
  ASSERT_EQ(::ioctl(reader_.get(), FIONREAD, &unread), 0);
  EXPECT_EQ(unread, 10'000);
  device_.give_room(20'000);
  stream.resume();
  EXPECT_TRUE(eventually([&] { return device_.text().size() == 10'001; }));
  loop_.stop();
}

TEST_P(InputStreamTest, RoomGivenWhileBeingOfferedIsNotLost) {
  std::optional<InputStream> stream;
  stream.emplace(*loop_, pipe(), InputStream::Options{});
  std::atomic<int> calls{0};
  stream->set_input([&](std::span<const std::byte> bytes) -> size_t {
    if (++calls > 1) return bytes.size();
    stream->resume();  // as another thread may do at this very moment
    return 0;
  });
  loop_.start();
  send("x");
  EXPECT_TRUE(eventually([&] { return calls.load() == 2; }));
  loop_.stop();
}

// A machine that starts again takes the console from one device and gives it to the next, while somebody
// types.
TEST_P(InputStreamTest, InputMayBeTakenAwayWhileItRuns) {
  InputStream stream{*loop_, pipe(), {}};
  loop_.start();
  std::jthread typist{[&](const std::stop_token& stop) {
    while (!stop.stop_requested() && ::write(writer_.get(), "x", 1) == 1) {
    }
  }};
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> alive{true};
    std::atomic<int> calls{0};
    stream.set_input([&](std::span<const std::byte> bytes) {
      EXPECT_TRUE(alive.load());
      ++calls;
      return bytes.size();
    });
    if (i % 10 == 0) {
      EXPECT_TRUE(eventually([&] { return calls.load() > 0; }));
    }
    stream.set_input({});
    alive = false;
  }
  typist.request_stop();
  stream.set_input([](std::span<const std::byte> bytes) { return bytes.size(); });
  typist.join();
  loop_.stop();
}

TEST_P(InputStreamTest, EndIsReportedOnce) {
  std::atomic<int> ends{0};
  InputStream stream{*loop_, pipe(), {.ended = [&] { ++ends; }}};
  device_.give_room(100);
  stream.set_input(device_.input());
  loop_.start();
  send("last");
  writer_ = Fd{};
  EXPECT_TRUE(eventually([&] { return ends.load() == 1; }));
  EXPECT_EQ(device_.text(), "last");
  stream.resume();
  std::this_thread::sleep_for(std::chrono::milliseconds{20});
  EXPECT_EQ(ends.load(), 1);
  loop_.stop();
}

TEST_P(InputStreamTest, ARegularFileIsReadAtTheDevicesPace) {
  const Fd file{::memfd_create("input", MFD_CLOEXEC)};
  const std::string text(20'000, 'z');
  ASSERT_EQ(::pwrite(file.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  std::atomic<int> ends{0};
  InputStream stream{
      *loop_, *StreamFd::borrow(file.get(), StreamFd::Access::read), {.ended = [&] { ++ends; }}};
  device_.give_room(10);
  stream.set_input(device_.input());
  loop_.start();
  EXPECT_TRUE(eventually([&] { return device_.text().size() == 10; }));
  EXPECT_LE(::lseek(file.get(), 0, SEEK_CUR), 4096);
  device_.give_room(100'000);
  stream.resume();
  EXPECT_TRUE(eventually([&] { return device_.text() == text && ends.load() == 1; }));
  loop_.stop();
}

TEST_P(InputStreamTest, AFilterSeesKeysWhileTheDeviceIsFull) {
  std::atomic<bool> seen{false};
  InputStream stream{*loop_,
                     pipe(),
                     {.filter =
                          [&](std::span<const std::byte> in, std::string& out) {
                            for (const auto key : in) {
                              if (key == std::byte{'!'}) seen = true;
                              out += static_cast<char>(key);
                            }
                          },
                      .type_ahead = 8}};
  stream.set_input(device_.input());
  loop_.start();
  send("0123456789");
  EXPECT_TRUE(eventually([&] { return device_.offers() > 0; }));
  send("!");
  EXPECT_TRUE(eventually([&] { return seen.load(); }));
  device_.give_room(100);
  stream.resume();
  EXPECT_TRUE(eventually([&] { return device_.text() == "01234567"; }));  // the rest was beyond the bound
  send("ok");
  EXPECT_TRUE(eventually([&] { return device_.text() == "01234567ok"; }));
  loop_.stop();
}

INSTANTIATE_TEST_SUITE_P(Engines, InputStreamTest,
                         testing::Values(EventLoop::Engine::any, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::any ? "any" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
