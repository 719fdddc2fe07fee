// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/listening_socket.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace vmm::backend {
namespace {

// Of the path, or of a name beside it.
Result<sockaddr_un> address_of(const std::filesystem::path& path, std::string_view what,
                               std::string_view suffix = {}) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto name = path.native() + std::string{suffix};
  if (path.empty() || name.size() >= sizeof address.sun_path) {
    return fail("{} {}: the path has {} bytes, 1 to {} are possible; use a shorter one", what, path.native(),
                path.native().size(), sizeof address.sun_path - 1 - suffix.size());
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// True if there is a socket at the path and no process behind it. One that is bound and does not listen yet
// refuses as well, but is not at its path by then.
bool is_left_behind(const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Fd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  return probe && ::connect(probe.get(), generic(address), sizeof address) != 0 && errno == ECONNREFUSED;
}

// Returns an errno, EEXIST if something is there.
int move_unless_there(const sockaddr_un& from, const sockaddr_un& to) {
  if (::renameat2(AT_FDCWD, from.sun_path, AT_FDCWD, to.sun_path, RENAME_NOREPLACE) == 0) return 0;
  if (::link(from.sun_path, to.sun_path) != 0) return errno;  // where the file system has no such rename: NFS
  ::unlink(from.sun_path);
  return 0;
}

void remove_left_behind(const sockaddr_un& address, const sockaddr_un& aside) {
  if (!is_left_behind(address) || ::rename(address.sun_path, aside.sun_path) != 0) return;
  // Another process that saw it too may have been faster, and then this is that one's new socket.
  if (is_left_behind(aside)) {
    ::unlink(aside.sun_path);
  } else {
    move_unless_there(aside, address);
  }
}

Result<Fd> connect(const std::filesystem::path& path, std::string_view what, int flags,
                   std::chrono::milliseconds patience) {
  VMM_TRY_ASSIGN(const auto address, address_of(path, what));
  Fd connection{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0)};
  if (!connection) return fail(errno, "connect to {} {}", what, path.native());
  const timeval time{.tv_sec = patience.count() / 1000, .tv_usec = patience.count() % 1000 * 1000};
  ::setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);  // connect(2) heeds it, too
  if (::connect(connection.get(), generic(address), sizeof address) != 0) {
    return fail(errno, "connect to {} {}", what, path.native());
  }
  return connection;
}

}  // namespace

Result<std::unique_ptr<ListeningSocket>> ListeningSocket::create(const std::filesystem::path& path,
                                                                 std::string_view what) {
  uint32_t lot = 0;
  ::getrandom(&lot, sizeof lot, GRND_NONBLOCK);  // not the process's number: each container has its own 1
  VMM_TRY_ASSIGN(const auto aside, address_of(path, what, fmt::format(".{:08x}", lot)));
  VMM_TRY_ASSIGN(const auto address, address_of(path, what));
  remove_left_behind(address, aside);

  Fd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!listener) return fail(errno, "make {} {}", what, path.native());
  // The mode of the descriptor is the mode that bind(2) gives the file: it is never there with a wider one.
  if (::fchmod(listener.get(), 0600) != 0) return fail(errno, "make {} {}", what, path.native());
  struct stat status{};
  if (::bind(listener.get(), generic(aside), sizeof aside) != 0 || ::lstat(aside.sun_path, &status) != 0) {
    return fail(errno, "make {} {}", what, path.native());
  }
  std::unique_ptr<ListeningSocket> socket{
      new ListeningSocket{std::move(listener), aside.sun_path, status.st_ino}};
  if (::listen(socket->get(), 4) != 0) return fail(errno, "make {} {}", what, path.native());
  // Only now, so that who finds a socket there that refuses may take it for one left behind.
  const int error = move_unless_there(aside, address);
  if (error == EEXIST) {
    return fail("make {} {}: something is there already and in use; choose another path", what,
                path.native());
  }
  if (error != 0) {
    return fail("make {} {}: its file system cannot move it there ({}); choose a path on another", what,
                path.native(), std::strerror(error));
  }
  socket->path_ = path;
  return socket;
}

ListeningSocket::ListeningSocket(Fd listener, std::filesystem::path path, ino_t inode)
    : listener_(std::move(listener)), path_(std::move(path)), inode_(inode) {}

ListeningSocket::~ListeningSocket() {
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && status.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

Fd ListeningSocket::accept() const {
  return Fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
}

Result<std::unique_ptr<Acceptor>> Acceptor::create(EventLoop& loop, const std::filesystem::path& path,
                                                   std::string_view what, Arrival arrival) {
  VMM_TRY_ASSIGN(auto socket, ListeningSocket::create(path, what));
  std::unique_ptr<Acceptor> acceptor{
      new Acceptor{loop, std::move(socket), fmt::format("{} {}", what, path.native()), std::move(arrival)}};
  VMM_TRY_ASSIGN(auto pause, Timer::create(loop, [&it = *acceptor] { it.watch(); }));
  acceptor->pause_ = std::make_unique<Timer>(std::move(pause));
  acceptor->watch();
  return acceptor;
}

Acceptor::Acceptor(EventLoop& loop, std::unique_ptr<ListeningSocket> socket, std::string name,
                   Arrival arrival)
    : loop_(loop), socket_(std::move(socket)), name_(std::move(name)), arrival_(std::move(arrival)) {}

void Acceptor::watch() {
  watch_ = loop_.watch(socket_->get(), EPOLLIN, [this](uint32_t) { handle_arrival(); });
}

void Acceptor::handle_arrival() {
  Fd client = socket_->accept();
  if (client) return arrival_(std::move(client));
  if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
  // Most likely this process has no descriptors left, and the client would wake us for ever.
  if (complaints_.pass()) {
    log(LogLevel::warning, "{}: take a client: {}, trying again in a second", name_, std::strerror(errno));
  }
  watch_.reset();
  pause_->arm(std::chrono::seconds{1});
}

Result<Fd> connect_to_socket(const std::filesystem::path& path, std::string_view what,
                             std::chrono::milliseconds patience) {
  return connect(path, what, 0, patience);
}

Result<Fd> connect_without_waiting(const std::filesystem::path& path, std::string_view what) {
  return connect(path, what, SOCK_NONBLOCK, {});
}

}  // namespace vmm::backend
