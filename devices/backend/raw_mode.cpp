// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/raw_mode.h"

#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace vmm::backend {
namespace {

// A signal handler reaches nothing but globals. g_found is written before g_terminal is set and only read
// while it is.
std::atomic<int> g_terminal{-1};
termios g_found{};
static_assert(std::atomic<int>::is_always_lock_free);

// A process in the background that changes its terminal is stopped by SIGTTOU, unless it blocks that.
void set_mode(int fd, const termios& mode) noexcept {
  sigset_t background;
  sigset_t before;
  ::sigemptyset(&background);
  ::sigaddset(&background, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &background, &before);
  // Not TCSADRAIN: a terminal that nobody reads would never drain.
  ::tcsetattr(fd, TCSANOW, &mode);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

termios raw_form_of(termios mode) {
  ::cfmakeraw(&mode);
  mode.c_cc[VMIN] = 1;
  mode.c_cc[VTIME] = 0;
  return mode;
}

void restore_and_die(int signal) {
  restore_terminal();
  ::raise(signal);  // SA_RESETHAND: the default action now
}

}  // namespace

Result<RawMode> RawMode::enter(int fd) {
  if (g_terminal.load() >= 0)
    return fail("use the terminal for a second console: one console has it already");
  if (::tcgetattr(fd, &g_found) != 0) return fail(errno, "read the terminal's mode");
  static const int registered = std::atexit([] { restore_terminal(); });
  if (registered != 0) return fail("arrange to restore the terminal at exit");
  restore_terminal_on_crash();
  const auto raw = raw_form_of(g_found);
  g_terminal.store(fd);
  // In the background this stops the process until it is brought to the foreground, as a shell's user
  // expects.
  while (::tcsetattr(fd, TCSANOW, &raw) != 0) {
    if (errno == EINTR) continue;
    const int error = errno;
    g_terminal.store(-1);
    return fail(error, "set the terminal to raw mode");
  }
  return RawMode{fd};
}

RawMode& RawMode::operator=(RawMode&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) restore_terminal();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

RawMode::~RawMode() {
  if (fd_ >= 0) restore_terminal();
}

void RawMode::enter_again() const {
  if (fd_ >= 0 && g_terminal.load() == fd_) set_mode(fd_, raw_form_of(g_found));
}

void restore_terminal() noexcept {
  const int error = errno;
  const int fd = g_terminal.exchange(-1);
  if (fd >= 0) set_mode(fd, g_found);
  errno = error;
}

void restore_terminal_on_crash() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGHUP, SIGQUIT}) {
    struct sigaction now{};
    if (::sigaction(signal, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) continue;
    struct sigaction then{};
    then.sa_handler = restore_and_die;
    then.sa_flags = static_cast<int>(SA_RESETHAND) | SA_NODEFER;
    ::sigaction(signal, &then, nullptr);
  }
}

}  // namespace vmm::backend
