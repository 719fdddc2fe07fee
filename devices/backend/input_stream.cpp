// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/input_stream.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

namespace vmm::backend {

struct InputStream::State : std::enable_shared_from_this<InputStream::State> {
  State(EventLoop& on, StreamFd from, Options with)
      : loop(on), stream(std::move(from)), options(std::move(with)) {}

  EventLoop& loop;
  StreamFd stream;
  Options options;
  std::mutex mutex;      // held while the input runs: whoever takes it away waits for that
  Console::Input input;  // guarded by mutex
  EventLoop::Watch watch;
  std::string pending;  // read, filtered, not yet taken
  bool ended = false;
  // Set before the device is offered anything: a resume() that comes while it is being offered is not lost.
  std::atomic<bool> refused{false};

  void post_continue() {
    loop.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->proceed();
    });
  }

  [[nodiscard]] bool may_read() const { return !ended && (pending.empty() || options.type_ahead != 0); }

  void offer() {
    const std::lock_guard lock{mutex};
    if (pending.empty() || !input) return;
    refused.store(true);
    const size_t taken = input(std::as_bytes(std::span{pending}));
    pending.erase(0, std::min(taken, pending.size()));
    if (pending.empty()) refused.store(false);
  }

  void read_some() {
    std::array<std::byte, 4096> bytes;
    const auto count = stream.read(bytes);
    if (count == -EAGAIN) return;
    if (count <= 0) {  // a terminal that hung up says EIO
      ended = true;
      if (options.ended) options.ended();
      return;
    }
    const auto in = std::span{bytes}.first(static_cast<size_t>(count));
    if (options.filter) {
      options.filter(in, pending);
    } else {
      pending.append(reinterpret_cast<const char*>(in.data()), in.size());
    }
    if (options.type_ahead != 0) pending.resize(std::min(pending.size(), options.type_ahead));
  }

  // Offers what there is, then arranges to be called when there is more to read.
  void proceed() {
    offer();
    if (!may_read()) {
      watch.reset();  // a hang-up is reported whatever one waits for: it would spin
    } else if (!stream.can_wait()) {
      read_some();
      offer();
      if (may_read()) post_continue();
    } else if (!watch) {
      watch = loop.watch(stream.get(), EPOLLIN, [weak = weak_from_this()](uint32_t) {
        if (const auto self = weak.lock()) self->on_readable();
      });
    }
  }

  void on_readable() {
    const bool was_empty = pending.empty();
    read_some();
    if (was_empty) offer();
    if (!may_read()) watch.reset();
  }
};

InputStream::InputStream(EventLoop& loop, StreamFd stream, Options options)
    : state_(std::make_shared<State>(loop, std::move(stream), std::move(options))) {}

InputStream::~InputStream() {
  state_->watch.reset();
}

void InputStream::set_input(Console::Input input) {
  {
    const std::lock_guard lock{state_->mutex};
    state_->input = std::move(input);
    if (!state_->input) return;
  }
  state_->post_continue();
}

void InputStream::resume() {
  if (state_->refused.exchange(false)) state_->post_continue();
}

}  // namespace vmm::backend
