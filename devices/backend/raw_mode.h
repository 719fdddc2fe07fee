// SPDX-License-Identifier: Apache-2.0
//
// Raw mode of a terminal (termios(3)): every key goes to the guest, Ctrl-C included, and nothing is echoed or
// translated. The mode belongs to the terminal and outlives the process, so it is undone on every way out: by
// the destructor, by exit(3), and by restore_terminal() from a signal handler.
#pragma once

#include <utility>

#include "vmm/core/result.h"

namespace vmm::backend {

class RawMode {
 public:
  RawMode() = default;
  // `fd` is a terminal and stays open longer than this. One at a time in a process.
  static Result<RawMode> enter(int fd);
  RawMode(RawMode&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawMode& operator=(RawMode&& other) noexcept;
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
  ~RawMode();

  explicit operator bool() const { return fd_ >= 0; }

  // After SIGCONT: the shell set its own mode while the process was stopped.
  void enter_again() const;

 private:
  explicit RawMode(int fd) : fd_(fd) {}
  int fd_ = -1;
};

// Puts the terminal back as it was found, if it is in raw mode. Async-signal-safe; may be called any number
// of times. Every handler of a signal that ends the process must call it.
void restore_terminal() noexcept;

// Makes signals that mean a crash (SIGSEGV, SIGABRT, …) or an end from outside (SIGHUP, SIGQUIT) restore the
// terminal before they end the process as usual. Leaves alone signals that already have a handler.
// RawMode::enter does this.
void restore_terminal_on_crash();

}  // namespace vmm::backend
