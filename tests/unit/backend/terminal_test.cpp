// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

// A terminal with a test for its user.
class Pty {
 public:
  Pty() : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    EXPECT_EQ(::grantpt(master_.get()), 0);
    EXPECT_EQ(::unlockpt(master_.get()), 0);
    slave_ = Fd{::open(::ptsname(master_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC)};
    EXPECT_TRUE(slave_);
  }
  [[nodiscard]] int slave() const { return slave_.get(); }
  [[nodiscard]] int master() const { return master_.get(); }
  void type(std::string_view keys) {
    ASSERT_EQ(::write(master_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  std::string read() {
    std::array<char, 4096> text;
    pollfd ready{.fd = master_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 5000) != 1) return {};
    const auto count = ::read(master_.get(), text.data(), text.size());
    return count > 0 ? std::string(text.data(), static_cast<size_t>(count)) : std::string{};
  }
  void resize(uint16_t columns, uint16_t rows) {
    const winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ASSERT_EQ(::ioctl(master_.get(), TIOCSWINSZ, &size), 0);
  }
  [[nodiscard]] bool is_raw() const {
    termios mode{};
    EXPECT_EQ(::tcgetattr(slave_.get(), &mode), 0);
    return (mode.c_lflag & static_cast<tcflag_t>(ICANON | ECHO | ISIG)) == 0;
  }

 private:
  Fd master_;
  Fd slave_;
};

class Guest {
 public:
  Console::Input input() {
    return [this](std::span<const std::byte> bytes) {
      const std::lock_guard lock{mutex_};
      text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return bytes.size();
    };
  }
  std::string text() {
    const std::lock_guard lock{mutex_};
    return text_;
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

TEST(Terminal, KeysGoToTheGuestAndOutputIsUnchanged) {
  Pty pty;
  Guest guest;
  RunningLoop loop;
  auto console = Terminal::create(*loop, [] {}, pty.slave(), pty.slave());
  ASSERT_TRUE(console) << console.error().message;
  (*console)->set_input(guest.input());
  loop.start();
  EXPECT_TRUE(pty.is_raw());
  pty.type("ls\r\x03\x1a");  // Ctrl-C and Ctrl-Z are the guest's
  EXPECT_TRUE(eventually([&] { return guest.text() == "ls\r\x03\x1a"; }));
  (*console)->write(bytes_of("a\nb"));
  EXPECT_EQ(pty.read(), "a\nb");  // no echo before it, no return added
  EXPECT_EQ(::fcntl(pty.slave(), F_GETFL) & O_NONBLOCK, 0);
  loop.stop();
  console->reset();
  EXPECT_FALSE(pty.is_raw());
}

TEST(Terminal, QuitAndHelp) {
  Pty pty;
  Guest guest;
  RunningLoop loop;
  std::atomic<int> quits{0};
  auto console = Terminal::create(*loop, [&] { ++quits; }, pty.slave(), pty.slave());
  ASSERT_TRUE(console);
  (*console)->set_input([](std::span<const std::byte>) -> size_t { return 0; });  // a guest that hangs
  loop.start();
  pty.type("stuck");
  pty.type("\x01h");
  EXPECT_EQ(pty.read(), EscapeKeys::kHelp);
  pty.type("\x01x");
  EXPECT_TRUE(eventually([&] { return quits.load() == 1; }));
  loop.stop();
}

TEST(Terminal, WindowSize) {
  Pty pty;
  pty.resize(132, 50);
  RunningLoop loop;
  auto console = Terminal::create(*loop, [] {}, pty.slave(), pty.slave());
  ASSERT_TRUE(console);
  EXPECT_EQ((*console)->window(), (WindowSize{132, 50}));
  std::atomic<WindowSize> told{WindowSize{}};
  (*console)->set_resize([&](WindowSize size) { told = size; });
  loop.start();
  pty.resize(100, 40);
  (*console)->window_changed();
  EXPECT_TRUE(eventually([&] { return told.load() == WindowSize{100, 40}; }));
  EXPECT_EQ((*console)->window(), (WindowSize{100, 40}));
  loop.stop();
}

TEST(Terminal, ModeIsTakenAgainAfterTheShellHadIt) {
  Pty pty;
  termios cooked{};
  ASSERT_EQ(::tcgetattr(pty.slave(), &cooked), 0);
  RunningLoop loop;
  auto console = Terminal::create(*loop, [] {}, pty.slave(), pty.slave());
  ASSERT_TRUE(console);
  loop.start();
  ASSERT_EQ(::tcsetattr(pty.slave(), TCSANOW, &cooked), 0);
  (*console)->continued();
  EXPECT_TRUE(eventually([&] { return pty.is_raw(); }));
  loop.stop();
}

TEST(Terminal, OnlyOneConsoleMayHaveIt) {
  Pty pty;
  RunningLoop loop;
  const auto first = Terminal::create(*loop, [] {}, pty.slave(), pty.slave());
  ASSERT_TRUE(first);
  const auto second = Terminal::create(*loop, [] {}, pty.slave(), pty.slave());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("second console"), std::string::npos);
}

TEST(Terminal, PipedInputIsTransparentAndMayEnd) {
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  ASSERT_EQ(::pipe2(in.data(), O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
  const Fd in_reader{in[0]};
  Fd in_writer{in[1]};
  const Fd out_reader{out[0]};
  const Fd out_writer{out[1]};
  Guest guest;
  RunningLoop loop;
  std::atomic<int> quits{0};
  auto console = Terminal::create(*loop, [&] { ++quits; }, in_reader.get(), out_writer.get());
  ASSERT_TRUE(console);
  (*console)->set_input(guest.input());
  loop.start();
  ASSERT_EQ(::write(in_writer.get(), "a\x01x", 3), 3);
  in_writer = Fd{};
  EXPECT_TRUE(eventually([&] { return guest.text() == "a\x01x"; }));
  EXPECT_EQ(quits.load(), 0);
  (*console)->write(bytes_of("still here"));
  std::array<char, 16> text{};
  EXPECT_EQ(::read(out_reader.get(), text.data(), text.size()), 10);
  EXPECT_EQ((*console)->window(), WindowSize{});
  loop.stop();
}

TEST(Terminal, ClosedInputIsNoInput) {
  Pty pty;
  RunningLoop loop;
  EXPECT_TRUE(Terminal::create(*loop, [] {}, 1 << 20, pty.slave()));
}

// What ends a child with a raw terminal, and how it must look afterwards.
void expect_restored_after(const Pty& pty, void (*end)()) {
  ASSERT_FALSE(pty.is_raw());
  const auto child = ::fork();
  if (child == 0) {
    auto raw = RawMode::enter(pty.slave());
    if (!raw || !pty.is_raw()) ::_exit(99);
    end();
    ::_exit(98);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_NE(WIFEXITED(status) ? WEXITSTATUS(status) : 0, 99);
  EXPECT_NE(WIFEXITED(status) ? WEXITSTATUS(status) : 0, 98);
  EXPECT_FALSE(pty.is_raw());
}

TEST(RawModeTest, RestoredOnExit) {
  expect_restored_after(Pty{}, [] { std::exit(0); });
}

TEST(RawModeTest, RestoredOnAbort) {
  expect_restored_after(Pty{}, [] { ::raise(SIGABRT); });
}

TEST(RawModeTest, RestoredOnHangup) {
  expect_restored_after(Pty{}, [] { ::raise(SIGHUP); });
}

TEST(RawModeTest, RestoredFromASignalHandler) {
  expect_restored_after(Pty{}, [] {
    ::signal(SIGTERM, [](int) {
      restore_terminal();
      restore_terminal();  // any number of times
      ::_exit(0);
    });
    ::raise(SIGTERM);
  });
}

}  // namespace
}  // namespace vmm::backend
