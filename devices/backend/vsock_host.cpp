// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/vsock_host.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

#include "vmm/core/log.h"

namespace vmm::backend {
namespace {

constexpr std::string_view kWhat = "vsock socket";
constexpr size_t kLongestLine = 64;

// "CONNECT N", in small letters or with more space, too: the port.
std::optional<uint32_t> parse_request(std::string_view line) {
  constexpr std::string_view kCommand = "connect";
  constexpr std::string_view kSpace = " \t\r\n";
  const auto same = [](char small, char any) { return small == (any | 0x20); };
  if (line.size() < kCommand.size() || !std::equal(kCommand.begin(), kCommand.end(), line.begin(), same))
    return {};
  line.remove_prefix(kCommand.size());
  const auto begin = line.find_first_not_of(kSpace);
  if (begin == 0 || begin == std::string_view::npos) return {};
  line = line.substr(begin, line.find_last_not_of(kSpace) + 1 - begin);
  uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc{} || end != line.data() + line.size()) return {};
  return port;
}

}  // namespace

Result<std::unique_ptr<VsockHost>> VsockHost::create(EventLoop& loop, const std::filesystem::path& path) {
  const size_t length = path.native().size();
  if (length > kLongestPath) {
    return fail(
        "make {} {}: the path has {} bytes, at most {} are possible, because {} must fit behind it; "
        "use a shorter one",
        kWhat, path.native(), length, kLongestPath, kLongestSuffix);
  }
  std::unique_ptr<VsockHost> host{new VsockHost{loop, path}};
  VMM_TRY_ASSIGN(host->acceptor_, Acceptor::create(loop, path, kWhat, [it = host.get()](Fd socket) {
                   it->handle_arrival(std::move(socket));
                 }));
  return host;
}

VsockHost::VsockHost(EventLoop& loop, std::filesystem::path path) : loop_(loop), path_(std::move(path)) {}

void VsockHost::handle_arrival(Fd socket) {
  if (waiting_.size() == kMostWaiting) waiting_.erase(waiting_.begin());
  const uint64_t id = next_id_++;
  auto& client = waiting_[id];
  client.socket = std::move(socket);
  client.watch = loop_.watch(client.socket.get(), EPOLLIN, [this, id](uint32_t) { handle_client(id); });
}

// Takes the line and not a byte more: what is behind it is the guest's.
void VsockHost::handle_client(uint64_t id) {
  const auto found = waiting_.find(id);
  auto& client = found->second;
  std::array<char, kLongestLine> bytes;
  const int socket = client.socket.get();
  const auto seen = ::recv(socket, bytes.data(), bytes.size() - client.line.size(), MSG_PEEK | MSG_DONTWAIT);
  if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const std::string_view text{bytes.data(), static_cast<size_t>(std::max(seen, ssize_t{0}))};
  const auto end = text.find('\n');
  const size_t wanted = end == std::string_view::npos ? text.size() : end + 1;
  const auto taken = ::recv(socket, bytes.data(), wanted, MSG_DONTWAIT);
  client.line.append(text.substr(0, static_cast<size_t>(std::max(taken, ssize_t{0}))));

  const bool complete = client.line.ends_with('\n');
  if (!complete && taken > 0 && client.line.size() < kLongestLine) return;
  Fd connection = std::move(client.socket);
  const auto port = complete ? parse_request(client.line) : std::nullopt;
  waiting_.erase(found);
  const auto arrival = arrival_;  // which may be replaced by what it does
  if (!port || !arrival) return;
  arrival(*port, std::make_unique<UnixStream>(loop_, std::move(connection)));
}

void VsockHost::confirm(UnixStream& stream, uint32_t host_port) {
  auto line = fmt::format("OK {}\n", host_port);
  const iovec part{line.data(), line.size()};
  stream.write({&part, 1});
}

std::unique_ptr<UnixStream> VsockHost::connect(uint32_t port) {
  auto connection = connect_without_waiting(fmt::format("{}_{}", path_.native(), port), kWhat);
  if (!connection) {
    log(LogLevel::debug, "{}", connection.error().message);
    return nullptr;
  }
  return std::make_unique<UnixStream>(loop_, std::move(*connection));
}

void VsockHost::linger(std::unique_ptr<UnixStream> stream) {
  stream->end_input();
  stream->end_output();
  if (stream->kept() == 0) return;
  const uint64_t id = next_id_++;
  auto& kept = lingering_[id] = std::move(stream);
  kept->set_changed([this, id] {
    const auto found = lingering_.find(id);
    if (found->second->kept() == 0) lingering_.erase(found);
  });
}

}  // namespace vmm::backend
