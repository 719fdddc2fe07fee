// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/socket_console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <string_view>
#include <utility>

namespace vmm::backend {
namespace {

bool has_gone(int client) {
  pollfd state{.fd = client, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

Result<std::unique_ptr<SocketConsole>> SocketConsole::create(EventLoop& loop,
                                                             const std::filesystem::path& path) {
  ignore_broken_pipes();
  std::unique_ptr<SocketConsole> console{new SocketConsole{loop}};
  VMM_TRY_ASSIGN(console->acceptor_,
                 Acceptor::create(loop, path, "console socket", [it = console.get()](Fd client) {
                   it->handle_arrival(std::move(client));
                 }));
  return console;
}

SocketConsole::SocketConsole(EventLoop& loop)
    : loop_(loop),
      output_(loop, OutputStream::Broken::keep_for_next),
      self_(std::make_shared<SocketConsole*>(this)) {}

void SocketConsole::handle_arrival(Fd client) {
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
