// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/socket_console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace vmm::backend {
namespace {

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto& name = path.native();
  if (name.empty() || name.size() >= sizeof address.sun_path) {
    return fail("make console socket {}: the path has {} bytes, 1 to {} are possible; use a shorter one",
                name, name.size(), sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// True if there is a socket at the path and no process behind it.
bool is_left_behind(const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Fd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  return probe && ::connect(probe.get(), generic(address), sizeof address) != 0 && errno == ECONNREFUSED;
}

bool has_gone(int client) {
  pollfd state{.fd = client, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

Result<std::unique_ptr<SocketConsole>> SocketConsole::create(EventLoop& loop,
                                                             const std::filesystem::path& path) {
  ignore_broken_pipes();
  VMM_TRY_ASSIGN(const auto address, address_of(path));
  Fd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!listener) return fail(errno, "make console socket {}", path.native());
  // The mode of the descriptor is the mode that bind(2) gives the file: it is never there with a wider one.
  if (::fchmod(listener.get(), 0600) != 0) return fail(errno, "make console socket {}", path.native());
  int bound = ::bind(listener.get(), generic(address), sizeof address);
  if (bound != 0 && errno == EADDRINUSE) {
    if (!is_left_behind(address)) {
      return fail("make console socket {}: something is there already and in use; choose another path",
                  path.native());
    }
    ::unlink(path.c_str());
    bound = ::bind(listener.get(), generic(address), sizeof address);
  }
  struct stat status{};
  if (bound != 0 || ::listen(listener.get(), 4) != 0 || ::lstat(path.c_str(), &status) != 0) {
    return fail(errno, "make console socket {}", path.native());
  }
  std::unique_ptr<SocketConsole> console{new SocketConsole{loop, std::move(listener), path, status.st_ino}};
  loop.post([weak = std::weak_ptr{console->self_}] {
    const auto self = weak.lock();
    if (!self) return;
    auto& it = **self;
    it.arrivals_ = it.loop_.watch(it.listener_.get(), EPOLLIN, [&it](uint32_t) { it.handle_arrival(); });
  });
  return console;
}

SocketConsole::SocketConsole(EventLoop& loop, Fd listener, std::filesystem::path path, ino_t inode)
    : loop_(loop),
      listener_(std::move(listener)),
      path_(std::move(path)),
      inode_(inode),
      output_(loop, OutputStream::Broken::keep_for_next),
      self_(std::make_shared<SocketConsole*>(this)) {}

SocketConsole::~SocketConsole() {
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && status.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

void SocketConsole::handle_arrival() {
  Fd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
  if (!client) return;
  // A client that left a moment ago may be noticed only now, behind its successor.
  if (input_.is_open() && has_gone(client_)) handle_end();
  if (input_.is_open()) {
    constexpr std::string_view kBusy = "vmm: another client has this console\r\n";
    ::send(client.get(), kBusy.data(), kBusy.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  welcome(std::move(client));
}

void SocketConsole::welcome(Fd client) {
  // Reading and writing are watched apart, and epoll(7) takes a descriptor once.
  Fd writer{::fcntl(client.get(), F_DUPFD_CLOEXEC, 0)};
  if (!writer) return;
  client_ = client.get();
  ++clients_;
  InputStream::Options options;
  options.ended = [this] {
    // Not from within the stream that is to go.
    loop_.post([weak = std::weak_ptr{self_}, ended = clients_] {
      const auto self = weak.lock();
      if (self && (*self)->clients_ == ended) (*self)->handle_end();
    });
  };
  output_.attach(StreamFd::adopt(std::move(writer)));
  input_.open(loop_, StreamFd::adopt(std::move(client)), std::move(options));
}

void SocketConsole::handle_end() {
  output_.detach();
  input_.close();
  client_ = -1;
}

}  // namespace vmm::backend
