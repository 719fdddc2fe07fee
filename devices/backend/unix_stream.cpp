// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/unix_stream.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vmm::backend {

UnixStream::UnixStream(EventLoop& loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {
  watch(needed());
}

// Hang-ups are always told.
uint32_t UnixStream::needed() const {
  uint32_t events = 0;
  if (!readable_ && !ended_) events |= EPOLLIN;
  if (kept() != 0) events |= EPOLLOUT;
  return events;
}

// An event that is watched and not needed does no harm before it comes: to end a watch has its price.
void UnixStream::wait() {
  if (!hung_up_ && (needed() & ~watched_) != 0) watch(needed());
}

void UnixStream::watch(uint32_t events) {
  watch_.reset();  // a descriptor is watched once
  watched_ = events;
  watch_ = loop_.watch(socket_.get(), events, [this](uint32_t came) { handle(came); });
}

void UnixStream::handle(uint32_t events) {
  const uint32_t useless = watched_ & ~needed();
  if ((events & static_cast<uint32_t>(EPOLLHUP | EPOLLERR)) != 0) {
    // Reported for ever. What the program has written before it went can be read.
    hung_up_ = true;
    watch_.reset();
    readable_ = !ended_;
    break_output();
  } else {
    if (kept() != 0 && (events & EPOLLOUT) != 0) drain();
    if (!ended_ && (events & EPOLLIN) != 0) readable_ = true;
    if ((events & useless) != 0) watch(needed());
  }
  // Last: this may not be there afterwards.
  if (const auto changed = changed_) changed();
}

ptrdiff_t UnixStream::read(std::span<const iovec> into) {
  if (ended_) return 0;
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(into.data());
  message.msg_iovlen = into.size();
  const auto count = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  const int error = errno;
  if (count > 0) return count;
  readable_ = false;
  if (count < 0 && (error == EAGAIN || error == EINTR)) {
    wait();
    return -EAGAIN;
  }
  ended_ = true;
  return count == 0 ? 0 : -error;
}

void UnixStream::write(std::span<const iovec> bytes) {
  if (broken_ || ending_) return;
  ptrdiff_t sent = 0;
  if (kept() == 0) {
    sent = send(bytes);
    if (sent < 0 && sent != -EAGAIN) return break_output();
  }
  auto skip = static_cast<size_t>(std::max(sent, ptrdiff_t{0}));
  kept_.erase(0, std::exchange(taken_, 0));
  for (const auto& part : bytes) {
    const size_t done = std::min(skip, part.iov_len);
    skip -= done;
    kept_.append(static_cast<const char*>(part.iov_base) + done, part.iov_len - done);
  }
  wait();
}

ptrdiff_t UnixStream::send(std::span<const iovec> bytes) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(bytes.data());
  message.msg_iovlen = bytes.size();
  const auto count = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count >= 0) return count;
  return errno == EINTR ? -EAGAIN : -errno;
}

void UnixStream::drain() {
  const iovec rest{kept_.data() + taken_, kept()};
  const auto count = send({&rest, 1});
  if (count == -EAGAIN) return;
  if (count < 0) return break_output();
  taken_ += static_cast<size_t>(count);
  if (kept() != 0) return;
  kept_.clear();
  taken_ = 0;
  if (ending_) ::shutdown(socket_.get(), SHUT_WR);
}

void UnixStream::break_output() {
  broken_ = true;
  kept_.clear();
  taken_ = 0;
}

void UnixStream::end_output() {
  ending_ = true;
  if (kept() == 0) ::shutdown(socket_.get(), SHUT_WR);
}

void UnixStream::end_input() {
  ended_ = true;
  readable_ = false;
  ::shutdown(socket_.get(), SHUT_RD);
}

}  // namespace vmm::backend
