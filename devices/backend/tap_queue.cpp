// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/tap_queue.h"

#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <cerrno>
#include <memory>
#include <utility>

#include <net/if.h>

#include "vmm/core/log.h"

namespace vmm::backend {

Result<std::unique_ptr<TapQueue>> TapQueue::create(std::string name, Fd tap, Kind kind) {
  std::unique_ptr<TapQueue> queue{new TapQueue{std::move(name), std::move(tap), kind}};
  VMM_TRY(queue->attach(false));
  return queue;
}

Result<void> TapQueue::attach(bool attached) {
  if (kind_ == Kind::first) return {};
  ifreq request{};
  request.ifr_flags = static_cast<short>(attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE);
  if (::ioctl(tap_.get(), TUNSETQUEUE, &request) != 0) {
    return fail(errno, "{} a queue of tap {}", attached ? "attach" : "detach", name_);
  }
  return {};
}

int TapQueue::send(std::span<const iovec> frame) {
  return ::writev(tap_.get(), frame.data(), static_cast<int>(frame.size())) < 0 ? -errno : 0;
}

int TapQueue::receive(std::span<const iovec> into) {
  const auto count = ::readv(tap_.get(), into.data(), static_cast<int>(into.size()));
  return count < 0 ? -errno : static_cast<int>(count);
}

Result<void> TapQueue::start(EventLoop& loop, std::function<void()> readable) {
  VMM_TRY(attach(true));
  loop_ = &loop;
  readable_ = std::move(readable);
  failed_ = false;
  watch_frames();
  return {};
}

void TapQueue::stop() {
  if (loop_ == nullptr) return;
  watch_.reset();
  wanted_ = false;
  loop_ = nullptr;
  if (const auto detached = attach(false); !detached) {
    log(LogLevel::warning, "{}", detached.error().message);
  }
}

void TapQueue::want_receive(bool wanted) {
  wanted_ = wanted;
  watch_frames();
}

void TapQueue::watch_frames() {
  const bool watch = loop_ != nullptr && wanted_ && !failed_;
  if (!watch) {
    watch_.reset();
  } else if (!watch_) {
    watch_ = loop_->watch(tap_.get(), EPOLLIN, [this](uint32_t events) { handle_readable(events); });
  }
}

void TapQueue::handle_readable(uint32_t events) {
  if ((events & static_cast<uint32_t>(EPOLLERR | EPOLLHUP)) == 0) return readable_();
  // The interface was deleted under us: always "ready", never anything to read. Whoever watches the link
  // tells.
  failed_ = true;
  watch_frames();
  log(LogLevel::warning, "tap {}: has gone, the guest has no network until it is started again", name_);
}

}  // namespace vmm::backend
