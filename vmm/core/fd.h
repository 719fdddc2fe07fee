// SPDX-License-Identifier: Apache-2.0
//
// File descriptors have one owner. EventFd is the wake-up shared with the kernel: doorbells (ioeventfd),
// interrupts (irqfd) and our own loops.
#pragma once

#include <cstdint>
#include <utility>

#include "vmm/core/result.h"

namespace vmm {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd();

  explicit operator bool() const { return fd_ >= 0; }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// A counter that wakes whoever polls it (eventfd(2)); non-blocking, close-on-exec.
class EventFd {
 public:
  static Result<EventFd> create();

  void signal() const;               // adds one; never blocks
  [[nodiscard]] bool drain() const;  // takes the count; true if it was not zero
  [[nodiscard]] int get() const { return fd_.get(); }

 private:
  explicit EventFd(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace vmm
