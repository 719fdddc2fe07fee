// SPDX-License-Identifier: Apache-2.0
//
// A byte stream that is read and written without ever blocking, and without changing it for others.
// O_NONBLOCK is a property of the open file, not of the descriptor: set on our standard output it would also
// be set for the shell that gave it to us, and stay. So a terminal or a pipe is opened a second time through
// /proc/self/fd, a socket is told so in each call, and what can be neither is asked by poll(2) first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class StreamFd {
 public:
  enum class Access : uint8_t { read, write };

  StreamFd() = default;
  // A stream that shares `fd` with others, who keep it: standard input and output.
  static Result<StreamFd> borrow(int fd, Access access);
  // A stream of our own: a connected socket, a regular file, or anything opened with O_NONBLOCK.
  static StreamFd adopt(Fd fd);

  // Bytes moved; 0 at the end of input; -EAGAIN when nothing can be moved now; another -errno.
  [[nodiscard]] ptrdiff_t read(std::span<std::byte> into) const;
  [[nodiscard]] ptrdiff_t write(std::span<const std::byte> bytes) const;

  // False for files that are always ready and that epoll(7) refuses: regular files, /dev/null.
  [[nodiscard]] bool can_wait() const { return can_wait_; }
  [[nodiscard]] int get() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  enum class Kind : uint8_t {
    non_blocking,  // says EAGAIN by itself, or never blocks
    socket,
    may_block,  // ask poll(2), then move no more than is sure to fit
  };
  StreamFd(Fd fd, Kind kind, size_t step);

  Fd fd_;
  Kind kind_ = Kind::non_blocking;
  bool can_wait_ = true;
  size_t step_ = 0;  // may_block: bytes a write may have at once
};

// A peer that goes away must be an error of write(2), not the end of the process: ignores SIGPIPE for the
// process unless a handler was set. libslirp and pipes have no other way to be told.
void ignore_broken_pipes();

}  // namespace vmm::backend
