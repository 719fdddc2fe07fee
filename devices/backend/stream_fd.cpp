// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/stream_fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>

namespace vmm::backend {
namespace {

bool epoll_accepts(int fd) {
  const Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  epoll_event event{.events = 0, .data = {}};
  return ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0 || errno != EPERM;
}

// Opening /dev/ptmx again makes another terminal: the master's end of one is not for reopening.
bool is_terminal_master(int fd) {
  unsigned number = 0;
  return ::ioctl(fd, TIOCGPTN, &number) == 0;
}

Fd reopen(int fd, StreamFd::Access access) {
  const int mode = access == StreamFd::Access::read ? O_RDONLY : O_WRONLY;
  const auto path = fmt::format("/proc/self/fd/{}", fd);
  return Fd{::open(path.c_str(), mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
}

}  // namespace

StreamFd::StreamFd(Fd fd, Kind kind, size_t step)
    : fd_(std::move(fd)), kind_(kind), can_wait_(epoll_accepts(fd_.get())), step_(step) {}

Result<StreamFd> StreamFd::borrow(int fd, Access access) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail(errno, "use descriptor {}", fd);
  if ((S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) && !is_terminal_master(fd)) {
    // Refused where the file belongs to another user, as a terminal does after su(1).
    if (auto own = reopen(fd, access)) return StreamFd{std::move(own), Kind::non_blocking, 0};
  }
  // A copy of the descriptor shares the position in a file: what others write to the same log is not
  // overwritten.
  Fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
  if (!copy) return fail(errno, "copy descriptor {}", fd);
  if (S_ISSOCK(status.st_mode)) return StreamFd{std::move(copy), Kind::socket, 0};
  if (S_ISREG(status.st_mode)) return StreamFd{std::move(copy), Kind::non_blocking, 0};
  // A pipe that polls writable takes PIPE_BUF bytes (pipe(7)); a terminal is only sure to take one.
  return StreamFd{std::move(copy), Kind::may_block, S_ISFIFO(status.st_mode) ? size_t{PIPE_BUF} : 1};
}

StreamFd StreamFd::adopt(Fd fd) {
  struct stat status{};
  const bool socket = ::fstat(fd.get(), &status) == 0 && S_ISSOCK(status.st_mode);
  return StreamFd{std::move(fd), socket ? Kind::socket : Kind::non_blocking, 0};
}

ptrdiff_t StreamFd::read(std::span<std::byte> into) const {
  if (kind_ == Kind::may_block) {
    pollfd ready{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 0) <= 0) return -EAGAIN;
  }
  const auto count = kind_ == Kind::socket ? ::recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT)
                                           : ::read(fd_.get(), into.data(), into.size());
  if (count >= 0) return count;
  return errno == EINTR ? -EAGAIN : -errno;
}

ptrdiff_t StreamFd::write(std::span<const std::byte> bytes) const {
  if (kind_ == Kind::may_block) {
    pollfd ready{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 0) <= 0) return -EAGAIN;
    bytes = bytes.first(std::min(bytes.size(), step_));
  }
  const auto count = kind_ == Kind::socket
                         ? ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                         : ::write(fd_.get(), bytes.data(), bytes.size());
  if (count >= 0) return count;
  return errno == EINTR ? -EAGAIN : -errno;
}

void ignore_broken_pipes() {
  struct sigaction now{};
  if (::sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) ::signal(SIGPIPE, SIG_IGN);
}

}  // namespace vmm::backend
