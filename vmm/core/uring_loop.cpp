// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/uring_loop.h"

#include <sys/epoll.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

#include "vmm/core/kernel_order.h"

namespace vmm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kEntries = 256;
// As many as disks of a machine of average size have requests in flight: the kernel keeps what does not fit
// in lists of its own, and Linux before 5.13 takes no more entries then.
constexpr unsigned kCompletions = 4096;

// What an entry is for. A completion pointer is at least 8-byte aligned, so its low bit is free to mark a
// watch.
constexpr uint64_t kIgnored = 0;
constexpr uint64_t watch_tag(uint64_t id) {
  return id << 1 | 1;
}

}  // namespace

Result<std::unique_ptr<EventLoop>> UringLoop::create(EventFd wake) {
  std::unique_ptr<UringLoop> loop{new UringLoop{std::move(wake)}};
  // Completions are not interrupted for: they are seen by a flag, or at the next system call (Linux 5.19).
  int error = loop->open(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
  if (error == -EINVAL) error = loop->open(0);
  if (error < 0) {
    loop->ring_.ring_fd = -1;
    return fail(-error, "create an io_uring");
  }
  return loop;
}

int UringLoop::open(unsigned flags) {
  io_uring_params parameters{};
  parameters.flags = flags | IORING_SETUP_CQSIZE;
  parameters.cq_entries = kCompletions;
  return ::io_uring_queue_init_params(kEntries, &ring_, &parameters);
}

UringLoop::~UringLoop() {
  if (ring_.ring_fd >= 0) ::io_uring_queue_exit(&ring_);
}

io_uring_sqe* UringLoop::next_entry() {
  auto* entry = ::io_uring_get_sqe(&ring_);
  while (entry == nullptr) {  // the ring is full of entries of this turn
    ::io_uring_submit(&ring_);
    entry = ::io_uring_get_sqe(&ring_);
  }
  return entry;
}

EventLoop::Watch UringLoop::watch(int fd, uint32_t events, Handler handler) {
  const uint64_t id = next_id_++;
  const auto added = watched_.emplace(id, Watched{fd, events, std::make_shared<Handler>(std::move(handler))});
  arm(id, added.first->second);
  return Watch{*this, id};
}

EventLoop::Watch UringLoop::watch_bell(const EventFd& bell, std::function<void()> handler) {
  if (!bells_are_entries()) {
    return watch(bell.get(), EPOLLIN, [&bell, handler = std::move(handler)](uint32_t) {
      if (bell.drain()) handler();
    });
  }
  return watch(bell.get(), kBell, [&bell, handler = std::move(handler)](uint32_t) {
    later_than(&bell);
    handler();
  });
}

// One-shot polls, armed again after the handler ran, are level-triggered: a multishot poll reports only
// edges, and a handler that left data behind would wait for ever.
void UringLoop::arm(uint64_t id, const Watched& watched) {
  auto* entry = next_entry();
  if (watched.events == kBell) {
    ::io_uring_prep_read(entry, watched.fd, &rung_, sizeof rung_, 0);
  } else {
    ::io_uring_prep_poll_add(entry, watched.fd, watched.events);
  }
  ::io_uring_sqe_set_data64(entry, watch_tag(id));
}

void UringLoop::unwatch(uint64_t id) {
  if (watched_.erase(id) == 0) return;
  auto* entry = next_entry();
  ::io_uring_prep_cancel64(entry, watch_tag(id), 0);
  ::io_uring_sqe_set_data64(entry, kIgnored);
  // The entry holds the file open: the owner is about to close the descriptor, and must find it closed.
  ::io_uring_submit(&ring_);
}

void UringLoop::ring(const EventFd& bell) {
  if (!bells_are_entries()) return bell.signal();
  static constexpr uint64_t kOnce = 1;
  earlier_than(&bell);
  auto* entry = next_entry();
  ::io_uring_prep_write(entry, bell.get(), &kOnce, sizeof kOnce, 0);
  ::io_uring_sqe_set_flags(entry, IOSQE_CQE_SKIP_SUCCESS);
  ::io_uring_sqe_set_data64(entry, kIgnored);
}

void UringLoop::flush() {
  transfers_queued_ = false;
  ::io_uring_submit(&ring_);
}

void UringLoop::submit(const FileOp& op, IoCompletion& completion) {
  auto* entry = next_entry();
  const auto count = static_cast<unsigned>(op.buffers.size());
  switch (op.kind) {
    case FileOp::Kind::readv:
      ::io_uring_prep_readv(entry, op.fd, op.buffers.data(), count, op.offset);
      break;
    case FileOp::Kind::writev:
      ::io_uring_prep_writev(entry, op.fd, op.buffers.data(), count, op.offset);
      break;
    case FileOp::Kind::fdatasync:
      ::io_uring_prep_fsync(entry, op.fd, IORING_FSYNC_DATASYNC);
      break;
    case FileOp::Kind::fallocate:
      ::io_uring_prep_fallocate(entry, op.fd, op.mode, static_cast<off_t>(op.offset),
                                static_cast<off_t>(op.length));
      break;
  }
  transfers_queued_ = true;
  took(1);
  const auto tag = reinterpret_cast<uint64_t>(&completion);
  assert((tag & 1) == 0 && tag != kIgnored);
  ::io_uring_sqe_set_data64(entry, tag);
}

// A turn of a busy loop takes what there is, and hands over what it made of it, without waiting: a file in
// the host's cache is read by the time the call returns. Only when nothing comes of that it looks again for a
// while, and only then it turns events on and sleeps.
void UringLoop::turn() {
  const auto begin = Clock::now();
  const auto patience = this->patience();
  bool work = look_or_end_turn();
  if (work || transfers_queued_ || patience.count() > 0) flush();
  work = work || ready() || look_for(patience) || rest();
  if (!work) {
    transfers_queued_ = false;
    choose_policy();
    ::io_uring_submit_and_wait(&ring_, 1);
    waited(Clock::now() - begin);
  }
  harvest();
}

// Without a system call, unless the kernel's flags ask for one.
bool UringLoop::ready() {
  io_uring_cqe* first = nullptr;
  return ::io_uring_peek_cqe(&ring_, &first) == 0;
}

bool UringLoop::look_for(std::chrono::nanoseconds patience) {
  if (patience.count() == 0) return false;
  const auto end = Clock::now() + patience;
  while (Clock::now() < end) {
    if (ready() || look()) return true;
    __builtin_ia32_pause();
  }
  return false;
}

void UringLoop::harvest() {
  // Taken out before any is handled: a handler may submit, which must not see a half-consumed ring.
  std::array<io_uring_cqe*, 64> ready;
  std::array<std::pair<uint64_t, int32_t>, 64> due;
  const unsigned count = ::io_uring_peek_batch_cqe(&ring_, ready.data(), ready.size());
  for (unsigned i = 0; i < count; ++i) due[i] = {ready[i]->user_data, ready[i]->res};
  ::io_uring_cq_advance(&ring_, count);
  for (unsigned i = 0; i < count; ++i) dispatch(due[i].first, due[i].second);
}

void UringLoop::dispatch(uint64_t tag, int32_t result) {
  if (tag == kIgnored) return;
  if ((tag & 1) == 0) {
    reinterpret_cast<IoCompletion*>(tag)->complete(result);
    return;
  }
  const uint64_t id = tag >> 1;
  const auto found = watched_.find(id);
  if (found == watched_.end()) return;  // ended while this event was on its way
  if (result >= 0) {
    const auto handler = found->second.handler;
    (*handler)(static_cast<uint32_t>(result));
  } else if (result != -EINTR && result != -ECANCELED && result != -EAGAIN) {
    return;  // a descriptor that cannot be polled is never ready
  }
  const auto still = watched_.find(id);  // unless its handler ended it
  if (still != watched_.end()) arm(id, still->second);
}

}  // namespace vmm
