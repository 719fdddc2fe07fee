// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/stream_fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <vector>

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

struct Pair {
  Fd first;
  Fd second;
};

Pair make_pipe() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  return {Fd{ends[0]}, Fd{ends[1]}};
}

Pair make_sockets() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {Fd{ends[0]}, Fd{ends[1]}};
}

bool is_non_blocking(int fd) {
  return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

// Writes until the stream says that it is full. A stream that blocked would end the test by its time limit.
size_t fill(const StreamFd& stream) {
  const std::vector<std::byte> bytes(10000);
  size_t total = 0;
  while (true) {
    const auto count = stream.write(bytes);
    if (count == -EAGAIN) return total;
    EXPECT_GT(count, 0);
    if (count <= 0) return total;
    total += static_cast<size_t>(count);
  }
}

TEST(StreamFd, FullPipeDoesNotBlockAndKeepsItsMode) {
  const auto pipe = make_pipe();
  const auto stream = StreamFd::borrow(pipe.second.get(), StreamFd::Access::write);
  ASSERT_TRUE(stream);
  EXPECT_GE(fill(*stream), size_t{4096});
  EXPECT_FALSE(is_non_blocking(pipe.second.get()));
}

TEST(StreamFd, FullSocketDoesNotBlockAndKeepsItsMode) {
  const auto sockets = make_sockets();
  const auto stream = StreamFd::borrow(sockets.first.get(), StreamFd::Access::write);
  ASSERT_TRUE(stream);
  EXPECT_GE(fill(*stream), size_t{4096});
  EXPECT_FALSE(is_non_blocking(sockets.first.get()));
}

// A terminal master cannot be opened a second time, so it is asked by poll before each step.
TEST(StreamFd, FullTerminalMasterDoesNotBlock) {
  const Fd master{::posix_openpt(O_RDWR | O_NOCTTY)};
  ASSERT_TRUE(master);
  ASSERT_EQ(::grantpt(master.get()), 0);
  ASSERT_EQ(::unlockpt(master.get()), 0);
  const Fd other{::open(::ptsname(master.get()), O_RDWR | O_NOCTTY)};
  ASSERT_TRUE(other);
  const auto stream = StreamFd::borrow(master.get(), StreamFd::Access::write);
  ASSERT_TRUE(stream);
  const std::array<std::byte, 3> bytes{};
  EXPECT_EQ(stream->write(bytes), 1);
  EXPECT_FALSE(is_non_blocking(master.get()));
}

TEST(StreamFd, EmptySourcesSayAgain) {
  const auto pipe = make_pipe();
  const auto sockets = make_sockets();
  std::array<std::byte, 16> bytes{};
  for (const int fd : {pipe.first.get(), sockets.first.get()}) {
    const auto stream = StreamFd::borrow(fd, StreamFd::Access::read);
    ASSERT_TRUE(stream);
    EXPECT_EQ(stream->read(bytes), -EAGAIN);
    EXPECT_TRUE(stream->can_wait());
  }
}

TEST(StreamFd, EndOfInputIsZero) {
  auto pipe = make_pipe();
  const auto stream = StreamFd::borrow(pipe.first.get(), StreamFd::Access::read);
  ASSERT_TRUE(stream);
  pipe.second = Fd{};
  std::array<std::byte, 16> bytes{};
  EXPECT_EQ(stream->read(bytes), 0);
}

TEST(StreamFd, FilesShareTheirPositionAndCannotWait) {
  const Fd file{::memfd_create("log", MFD_CLOEXEC)};
  ASSERT_TRUE(file);
  ASSERT_EQ(::write(file.get(), "ab", 2), 2);
  const auto stream = StreamFd::borrow(file.get(), StreamFd::Access::write);
  ASSERT_TRUE(stream);
  EXPECT_FALSE(stream->can_wait());
  EXPECT_EQ(stream->write(std::as_bytes(std::span{"cd", 2})), 2);
  ASSERT_EQ(::write(file.get(), "ef", 2), 2);
  std::array<char, 8> content{};
  ASSERT_EQ(::pread(file.get(), content.data(), content.size(), 0), 6);
  EXPECT_STREQ(content.data(), "abcdef");
}

TEST(StreamFd, NullDeviceCannotWait) {
  const Fd null{::open("/dev/null", O_RDONLY)};
  const auto stream = StreamFd::borrow(null.get(), StreamFd::Access::read);
  ASSERT_TRUE(stream);
  EXPECT_FALSE(stream->can_wait());
}

TEST(StreamFd, BrokenPeerIsAnError) {
  ignore_broken_pipes();
  auto pipe = make_pipe();
  auto sockets = make_sockets();
  const auto to_pipe = StreamFd::borrow(pipe.second.get(), StreamFd::Access::write);
  const auto to_socket = StreamFd::borrow(sockets.first.get(), StreamFd::Access::write);
  ASSERT_TRUE(to_pipe && to_socket);
  pipe.first = Fd{};
  sockets.second = Fd{};
  const std::array<std::byte, 1> byte{};
  EXPECT_EQ(to_pipe->write(byte), -EPIPE);
  EXPECT_EQ(to_socket->write(byte), -EPIPE);
}

TEST(StreamFd, ClosedDescriptorIsRefused) {
  const auto stream = StreamFd::borrow(-1, StreamFd::Access::read);
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code, EBADF);
}

}  // namespace
}  // namespace vmm::backend
