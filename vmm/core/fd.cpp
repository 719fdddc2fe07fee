// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/core/kernel_order.h"

namespace vmm {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Result<EventFd> EventFd::create() {
  Fd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!fd) return fail(errno, "create an eventfd");
  return EventFd{std::move(fd)};
}

void EventFd::signal() const {
  earlier_than(this);
  const uint64_t one = 1;
  // EAGAIN means that the counter is full: the reader is awake already.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

bool EventFd::drain() const {
  uint64_t count = 0;
  if (::read(fd_.get(), &count, sizeof count) != sizeof count) return false;
  later_than(this);
  return true;
}

}  // namespace vmm
