// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/epoll_loop.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace vmm {
namespace {

constexpr size_t kMostPerTurn = 32;  // operations on files

int32_t perform(const FileOp& op) {
  const auto count = static_cast<int>(op.buffers.size());
  const auto offset = static_cast<off_t>(op.offset);
  ssize_t result = 0;
  switch (op.kind) {
    case FileOp::Kind::readv:
      result = ::preadv(op.fd, op.buffers.data(), count, offset);
      break;
    case FileOp::Kind::writev:
      result = ::pwritev(op.fd, op.buffers.data(), count, offset);
      break;
    case FileOp::Kind::fdatasync:
      result = ::fdatasync(op.fd);
      break;
    case FileOp::Kind::fallocate:
      result = ::fallocate(op.fd, op.mode, offset, static_cast<off_t>(op.length));
      break;
  }
  return static_cast<int32_t>(result < 0 ? -errno : result);
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EpollLoop::create(EventFd wake) {
  Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll) return fail(errno, "create an epoll instance");
  return std::unique_ptr<EventLoop>{new EpollLoop{std::move(wake), std::move(epoll)}};
}

EventLoop::Watch EpollLoop::watch(int fd, uint32_t events, Handler handler) {
  const uint64_t id = next_id_++;
  epoll_event event{.events = events, .data = {.u64 = id}};
  watched_.emplace(id, Watched{fd, std::make_shared<Handler>(std::move(handler))});
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  return Watch{*this, id};
}

EventLoop::Watch EpollLoop::watch_bell(const EventFd& bell, std::function<void()> handler) {
  return watch(bell.get(), EPOLLIN, [&bell, handler = std::move(handler)](uint32_t) {
    if (bell.drain()) handler();
  });
}

void EpollLoop::unwatch(uint64_t id) {
  const auto found = watched_.find(id);
  if (found == watched_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
  watched_.erase(found);
}

void EpollLoop::submit(const FileOp& op, IoCompletion& completion) {
  took(1);
  pending_.push_back({op, &completion});
}

void EpollLoop::turn() {
  std::array<epoll_event, 64> events;
  const int timeout = look_or_end_turn() || !pending_.empty() || rest() ? 0 : -1;
  if (timeout < 0) choose_policy();
  const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
  for (int i = 0; i < ready; ++i) {
    const auto& event = events[static_cast<size_t>(i)];
    const auto found = watched_.find(event.data.u64);
    if (found == watched_.end()) continue;  // an earlier handler of this turn ended it
    const auto handler = found->second.handler;
    (*handler)(event.events);
  }
  // A share, in their order: each may take its time, and events must not wait for all of them.
  for (size_t left = std::min(pending_.size(), kMostPerTurn); left > 0; --left) {
    const auto [op, completion] = pending_.front();
    pending_.pop_front();
    completion->complete(perform(op));
  }
}

}  // namespace vmm
