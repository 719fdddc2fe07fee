// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/listening_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <barrier>
#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

class ListeningSocketTest : public testing::Test {
 protected:
  ListeningSocketTest() {
    std::string name = "/tmp/listenXXXXXX";  // short: the path of a socket has 107 bytes
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ / "socket";
  }
  ~ListeningSocketTest() override { std::filesystem::remove_all(folder_); }

  static Result<std::unique_ptr<ListeningSocket>> listen(const std::filesystem::path& path) {
    return ListeningSocket::create(path, "test socket");
  }
  static bool answers(const std::filesystem::path& path) {
    return connect_without_waiting(path, "test socket").has_value();
  }
  // As a process that was killed leaves it.
  void leave_one_behind() const {
    const auto aside = folder_ / "aside";
    {
      const auto socket = listen(path_);
      ASSERT_TRUE(socket) << socket.error().message;
      ASSERT_EQ(::rename(path_.c_str(), aside.c_str()), 0);  // its owner cannot remove it
    }
    ASSERT_EQ(::rename(aside.c_str(), path_.c_str()), 0);
  }
  [[nodiscard]] size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator{folder_}, {}));
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(ListeningSocketTest, IsItsOwnersAloneAndLeavesNothing) {
  {
    const auto socket = listen(path_);
    ASSERT_TRUE(socket) << socket.error().message;
    struct stat status{};
    ASSERT_EQ(::lstat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_TRUE(answers(path_));
    EXPECT_EQ(files(), 1U);
  }
  EXPECT_EQ(files(), 0U);
}

TEST_F(ListeningSocketTest, OneLeftBehindIsReplaced) {
  leave_one_behind();
  EXPECT_FALSE(answers(path_));
  const auto socket = listen(path_);
  ASSERT_TRUE(socket) << socket.error().message;
  EXPECT_TRUE(answers(path_));
  EXPECT_EQ(files(), 1U);
}

TEST_F(ListeningSocketTest, WhatIsThereStays) {
  const auto socket = listen(path_);
  std::ofstream{folder_ / "file"} << "precious";
  std::filesystem::create_directory(folder_ / "folder");
  std::filesystem::create_symlink("nowhere", folder_ / "link");
  for (const auto* name : {"socket", "file", "folder", "link"}) {
    const auto second = listen(folder_ / name);
    ASSERT_FALSE(second) << name;
    EXPECT_NE(second.error().message.find("in use"), std::string::npos) << second.error().message;
  }
  EXPECT_FALSE(listen(folder_ / "nowhere" / "socket"));
  EXPECT_TRUE(answers(path_));
  EXPECT_EQ(std::filesystem::file_size(folder_ / "file"), 8U);
  EXPECT_EQ(files(), 4U);
}

TEST_F(ListeningSocketTest, AnothersIsNotRemoved) {
  auto first = listen(path_);
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  const auto second = listen(path_);
  ASSERT_TRUE(second) << second.error().message;
  first->reset();
  EXPECT_TRUE(answers(path_));
}

TEST_F(ListeningSocketTest, PathsAreNotLongerThanSocketsHaveThem) {
  const auto longest = folder_.native() + "/" + std::string(98 - folder_.native().size() - 1, 'x');
  EXPECT_TRUE(listen(longest));
  for (const auto& path : {longest + "x", std::string{}}) {
    const auto refused = listen(path);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("1 to 98"), std::string::npos) << refused.error().message;
  }
}

// Two machines with one name: one of them has it, and keeps it. Where a socket is at its path before it
// listens, or where one left behind is removed by name, one takes the other's for left behind.
TEST_F(ListeningSocketTest, OfTwoAtOnceOneHasThePath) {
  for (int round = 0; round < 1000; ++round) {
    if (round % 2 != 0) leave_one_behind();
    std::array<std::unique_ptr<ListeningSocket>, 2> sockets;
    {
      std::barrier begin{2};
      std::array<std::jthread, 2> threads;
      for (size_t i = 0; i < 2; ++i) {
        threads[i] = std::jthread{[&, i] {
          begin.arrive_and_wait();
          if (auto made = listen(path_)) sockets[i] = std::move(*made);
        }};
      }
    }
    ASSERT_TRUE((sockets[0] != nullptr) != (sockets[1] != nullptr))
        << "round " << round << ": " << (sockets[0] != nullptr ? "both" : "none");
    ASSERT_TRUE(answers(path_)) << "round " << round;
    ASSERT_EQ(files(), 1U) << "round " << round;
  }
}

}  // namespace
}  // namespace vmm::backend
