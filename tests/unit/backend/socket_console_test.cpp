// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/socket_console.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <mutex>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"
#include "tests/unit/without_descriptors.h"

namespace vmm::backend {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

class SocketConsoleTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  SocketConsoleTest() {
    std::string name = "/tmp/consoleXXXXXX";  // short: the path of a socket has 107 bytes
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ / "tty";
  }
  ~SocketConsoleTest() override {
    loop_.stop();
    console_.reset();
    std::filesystem::remove_all(folder_);
  }
  void open() {
    auto console = SocketConsole::create(*loop_, path_);
    ASSERT_TRUE(console) << console.error().message;
    console_ = std::move(*console);
    console_->set_input([this](std::span<const std::byte> bytes) {
      const std::lock_guard lock{mutex_};
      input_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return bytes.size();
    });
    loop_.start();
  }
  std::string input() {
    const std::lock_guard lock{mutex_};
    return input_;
  }
  Fd connect() {
    Fd client{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return client;
  }
  // What arrives until `enough` bytes are there, the connection ends, or five seconds have passed.
  static std::string read(const Fd& client, size_t enough) {
    std::string text;
    while (text.size() < enough) {
      pollfd ready{.fd = client.get(), .events = POLLIN, .revents = 0};
      std::array<char, 4096> bytes;
      if (::poll(&ready, 1, 5000) != 1) break;
      const auto count = ::read(client.get(), bytes.data(), bytes.size());
      if (count <= 0) break;
      text.append(bytes.data(), static_cast<size_t>(count));
    }
    return text;
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
  RunningLoop loop_{GetParam()};
  std::unique_ptr<SocketConsole> console_;
  std::mutex mutex_;
  std::string input_;
};

TEST_P(SocketConsoleTest, ClientSeesWhatWasSaidAndTypes) {
  open();
  console_->write(bytes_of("booting "));
  const auto client = connect();
  EXPECT_EQ(read(client, 8), "booting ");
  console_->write(bytes_of("login: "));
  EXPECT_EQ(read(client, 7), "login: ");
  ASSERT_EQ(::write(client.get(), "root\n", 5), 5);
  EXPECT_TRUE(eventually([&] { return input() == "root\n"; }));
}

TEST_P(SocketConsoleTest, ClientsComeOneAfterTheOther) {
  open();
  for (int i = 0; i < 20; ++i) {
    const auto client = connect();
    const auto text = std::to_string(i) + "\n";
    // The one before has gone, whether or not the loop has noticed yet.
    ASSERT_EQ(::write(client.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ASSERT_TRUE(eventually([&] { return input().ends_with(text); })) << i;
  }
}

TEST_P(SocketConsoleTest, ASecondClientIsToldAndLeavesTheFirstAlone) {
  open();
  const auto first = connect();
  console_->write(bytes_of("x"));
  EXPECT_EQ(read(first, 1), "x");
  const auto second = connect();
  EXPECT_NE(read(second, 1000).find("another client"), std::string::npos);
  console_->write(bytes_of("y"));
  EXPECT_EQ(read(first, 1), "y");
}

TEST_P(SocketConsoleTest, OutputWaitsForTheNextClient) {
  open();
  {
    const auto client = connect();
    console_->write(bytes_of("a"));
    EXPECT_EQ(read(client, 1), "a");
  }
  console_->write(bytes_of("b"));  // whether or not the loop has noticed that the client has gone
  const auto next = connect();
  EXPECT_EQ(read(next, 1), "b");
}

TEST_P(SocketConsoleTest, SocketIsPrivateAndRemoved) {
  open();
  struct stat status{};
  ASSERT_EQ(::lstat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  loop_.stop();
  console_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_P(SocketConsoleTest, ALeftBehindSocketIsReplacedALiveOneIsNot) {
  const Fd dead{::socket(AF_UNIX, SOCK_STREAM, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  open();
  const auto second = SocketConsole::create(*loop_, path_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("in use"), std::string::npos) << second.error().message;
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_P(SocketConsoleTest, OtherFilesAreNeverReplaced) {
  std::ofstream{path_} << "precious";
  EXPECT_FALSE(SocketConsole::create(*loop_, path_));
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
}

TEST_P(SocketConsoleTest, LongPathsAreNamed) {
  const auto console = SocketConsole::create(*loop_, folder_ / std::string(200, 'x'));
  ASSERT_FALSE(console);
  EXPECT_NE(console.error().message.find("98"), std::string::npos) << console.error().message;
}

TEST_P(SocketConsoleTest, AClientThatCannotBeTakenWaits) {
  open();
  Fd client;
  EXPECT_LT(work_without_descriptors(*loop_, [&] { client = connect(); }), std::chrono::milliseconds{50});
  console_->write(bytes_of("at last"));
  EXPECT_EQ(read(client, 7), "at last");
}

INSTANTIATE_TEST_SUITE_P(Engines, SocketConsoleTest,
                         testing::Values(EventLoop::Engine::any, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::any ? "any" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
