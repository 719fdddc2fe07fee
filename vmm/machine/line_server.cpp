// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/line_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace vmm {
namespace {

// An error's code is EAGAIN where the other side did nothing for as long as `patience`.
Result<std::string> exchange(const std::filesystem::path& path, std::string_view what,
                             std::string_view request, std::chrono::milliseconds patience) {
  VMM_TRY_ASSIGN(const auto socket, backend::connect_to_socket(path, what, patience));
  const auto sent = ::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(request.size())) {
    return fail(sent < 0 ? errno : EAGAIN, "ask {} {}", what, path.native());
  }
  std::string answer;
  while (!answer.ends_with('\n')) {
    std::array<char, 4096> bytes;
    const auto count = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(errno, "{} {}", what, path.native());
    if (count == 0) return fail("{} {}: ended without an answer", what, path.native());
    answer.append(bytes.data(), static_cast<size_t>(count));
  }
  return answer;
}

}  // namespace

Result<std::unique_ptr<LineServer>> LineServer::create(EventLoop& loop, const std::filesystem::path& path,
                                                       std::string_view what, Handler handler) {
  std::unique_ptr<LineServer> server{new LineServer{loop, std::move(handler)}};
  VMM_TRY_ASSIGN(server->acceptor_,
                 backend::Acceptor::create(loop, path, what, [it = server.get()](Fd socket) {
                   it->handle_arrival(std::move(socket));
                 }));
  return server;
}

LineServer::LineServer(EventLoop& loop, Handler handler)
    : loop_(loop), handler_(std::move(handler)), self_(std::make_shared<LineServer*>(this)) {}

void LineServer::handle_arrival(Fd socket) {
  if (clients_.size() == kMostClients) {
    clients_.erase(std::ranges::min_element(
        clients_, {}, [](const auto& each) { return std::pair{each.second.asking, each.second.used}; }));
  }
  const uint64_t id = next_id_++;
  auto& client = clients_[id];
  client.socket = std::move(socket);
  client.used = requests_;
  wait(id, client, EPOLLIN);
}

void LineServer::wait(uint64_t id, Client& client, uint32_t events) {
  if (client.watch && client.watched == events) return;
  client.watch.reset();  // a descriptor is watched once
  client.watched = events;
  client.watch =
      loop_.watch(client.socket.get(), events, [this, id](uint32_t came) { handle_client(id, came); });
}

void LineServer::handle_client(uint64_t id, uint32_t events) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  auto& client = found->second;
  const bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0 && (events & EPOLLIN) == 0;
  if (gone || ((events & EPOLLIN) != 0 && !receive(client))) {
    clients_.erase(found);
    return;
  }
  go_on(id);
}

// Takes what has come; false when the client is to be dropped. One read a turn: nobody keeps the loop busy.
bool LineServer::receive(Client& client) {
  std::array<char, 4096> bytes;
  const auto count = ::recv(client.socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  client.input.append(bytes.data(), static_cast<size_t>(count));
  return client.input.size() <= kLongestRequest;
}

// Sends what is to be sent; false when the client is to be dropped.
bool LineServer::send(Client& client) {
  while (!client.output.empty()) {
    const auto count =
        ::send(client.socket.get(), client.output.data(), client.output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    client.output.erase(0, static_cast<size_t>(count));
  }
  return true;
}

// The client's next step, and what it waits for after that.
void LineServer::go_on(uint64_t id) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  auto& client = found->second;
  if (!send(client)) {
    clients_.erase(found);
    return;
  }
  if (!client.output.empty()) return wait(id, client, EPOLLOUT);
  if (client.asking) return wait(id, client, 0);  // only whether it goes away
  const auto end = client.input.find('\n');
  if (end == std::string::npos) return wait(id, client, EPOLLIN);
  const auto request = client.input.substr(0, end);
  client.input.erase(0, end + 1);
  ask(id, client, request);
}

void LineServer::ask(uint64_t id, Client& client, std::string_view request) {
  client.asking = true;
  client.used = ++requests_;
  wait(id, client, 0);
  handler_(request, [this, id, self = std::weak_ptr{self_}](std::string line) {
    if (self.expired()) return;
    const auto found = clients_.find(id);
    if (found == clients_.end()) return;
    found->second.output = std::move(line) + "\n";
    found->second.asking = false;
    if (!send(found->second)) return;  // found again, and dropped, in its next turn
    // The rest in a turn of its own: a client with many requests waits its turn among the others.
    loop_.post([this, id, self] {
      if (!self.expired()) go_on(id);
    });
  });
}

Result<std::string> ask_line_server(const std::filesystem::path& path, std::string_view what,
                                    std::string request, std::chrono::milliseconds patience) {
  request += '\n';
  auto answer = exchange(path, what, request, patience);
  if (!answer && answer.error().code == EAGAIN) {
    return fail("{} {}: no answer within {} s; let its process go on if it is stopped, or try again later",
                what, path.native(), static_cast<double>(patience.count()) / 1000);
  }
  if (answer) answer->pop_back();
  return answer;
}

}  // namespace vmm
