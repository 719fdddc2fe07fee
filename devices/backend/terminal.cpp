// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/core/log.h"

namespace vmm::backend {
namespace {

// Read on while the guest takes nothing, so that Ctrl-A x works on a guest that hangs. More than anybody
// types, and enough for a pasted script.
constexpr size_t kTypeAhead = size_t{64} * 1024;

// True too for a terminal that is not our session's: nobody's job control speaks there (a test's, or a serial
// line).
bool has_foreground(int terminal) {
  const auto group = ::tcgetpgrp(terminal);
  return group < 0 || group == ::getpgrp();
}

}  // namespace

Terminal::Terminal(EventLoop& loop, std::function<void()> quit, int input)
    : loop_(loop),
      quit_(std::move(quit)),
      source_(input),
      output_(loop),
      self_(std::make_shared<Terminal*>(this)) {}

Result<std::unique_ptr<Terminal>> Terminal::create(EventLoop& loop, std::function<void()> quit, int input,
                                                   int output) {
  ignore_broken_pipes();
  std::unique_ptr<Terminal> console{new Terminal{loop, std::move(quit), input}};
  VMM_TRY_ASSIGN(auto out, StreamFd::borrow(output, StreamFd::Access::write));
  console->output_.attach(std::move(out));
  console->interactive_ = ::isatty(input) == 1;
  if (console->interactive_ || ::isatty(output) == 1) {
    console->terminal_ = Fd{::fcntl(console->interactive_ ? input : output, F_DUPFD_CLOEXEC, 0)};
    if (!console->terminal_) return fail(errno, "copy the terminal's descriptor");
    console->read_window();
  }
  VMM_TRY(console->attend());
  return console;
}

// Takes the input if it is ours to take, or gives it up.
Result<void> Terminal::attend() {
  // Started with no standard input at all (`<&-`): there is nothing to read, and no reason not to run.
  if (::fcntl(source_, F_GETFD) < 0 && errno == EBADF) return {};
  if (interactive_ && !has_foreground(terminal_.get())) {
    input_.close();
    return {};
  }
  InputStream::Options options;
  if (interactive_) {
    if (raw_mode_) {
      raw_mode_.enter_again();
    } else {
      VMM_TRY_ASSIGN(raw_mode_, RawMode::enter(terminal_.get()));
    }
    options.type_ahead = kTypeAhead;
    options.filter = [this](auto bytes, auto& to) { filter(bytes, to); };
  }
  if (input_.is_open()) return {};
  VMM_TRY_ASSIGN(auto in, StreamFd::borrow(source_, StreamFd::Access::read));
  input_.open(loop_, std::move(in), std::move(options));
  return {};
}

void Terminal::filter(std::span<const std::byte> in, std::string& out) {
  for (const auto key : in) {
    switch (keys_.press(key, out)) {
      case EscapeKeys::Action::quit:
        if (quit_) quit_();
        break;
      case EscapeKeys::Action::help:
        write(std::as_bytes(std::span{EscapeKeys::kHelp}));
        break;
      case EscapeKeys::Action::none:
        break;
    }
  }
}

void Terminal::write(std::span<const std::byte> bytes) {
  output_.write(bytes);
}

void Terminal::set_input(Input input) {
  input_.set_input(std::move(input));
}

void Terminal::resume() {
  input_.resume();
}

WindowSize Terminal::window() const {
  return window_.load();
}

void Terminal::set_resize(std::function<void(WindowSize)> resized) {
  resized_ = std::move(resized);
}

uint64_t Terminal::dropped() const {
  return output_.dropped();
}

void Terminal::read_window() {
  winsize size{};
  if (!terminal_ || ::ioctl(terminal_.get(), TIOCGWINSZ, &size) != 0) return;
  if (size.ws_col == 0 || size.ws_row == 0) return;  // a terminal that does not know
  const WindowSize now{size.ws_col, size.ws_row};
  if (now == window_.exchange(now)) return;
  const std::lock_guard lock{resize_mutex_};
  if (resized_) resized_(now);
}

void Terminal::window_changed() {
  loop_.post([weak = std::weak_ptr{self_}] {
    if (const auto self = weak.lock()) (*self)->read_window();
  });
}

void Terminal::continued() {
  loop_.post([weak = std::weak_ptr{self_}] {
    const auto self = weak.lock();
    if (!self) return;
    if (const auto done = (*self)->attend(); !done)
      log(LogLevel::warning, "console: {}", done.error().message);
    (*self)->read_window();
  });
}

}  // namespace vmm::backend
