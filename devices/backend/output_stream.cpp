// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/output_stream.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <string>
#include <string_view>

namespace vmm::backend {
namespace {

constexpr auto kFarewell = std::chrono::seconds{1};

}  // namespace

struct OutputStream::State : std::enable_shared_from_this<OutputStream::State> {
  State(EventLoop& on, Broken when_broken, size_t most) : loop(on), on_break(when_broken), capacity(most) {}

  EventLoop& loop;
  const Broken on_break;
  const size_t capacity;
  std::atomic<uint64_t> dropped{0};
  EventLoop::Watch watch;  // loop's thread

  std::mutex mutex;  // guards what follows
  StreamFd stream;
  bool broken = false;  // the stream takes nothing any more
  std::string kept;
  size_t taken = 0;      // bytes at the start of `kept` that the reader has
  bool waiting = false;  // the loop watches for room, or is about to

  [[nodiscard]] std::span<const std::byte> rest() const {
    return std::as_bytes(std::span{kept}).subspan(taken);
  }

  [[nodiscard]] bool has_reader() const { return stream && !broken; }

  // Bytes that need not be kept: those that the stream took, and all if it is broken and nobody comes after.
  size_t push(std::span<const std::byte> bytes) {
    size_t done = 0;
    while (has_reader() && done < bytes.size()) {
      const auto count = stream.write(bytes.subspan(done));
      if (count == -EAGAIN) break;
      broken = count <= 0;
      if (!broken) done += static_cast<size_t>(count);
    }
    if (!broken || on_break == Broken::keep_for_next) return done;
    dropped += bytes.size() - done;
    return bytes.size();
  }

  void drain() {
    taken += push(rest());
    if (taken == kept.size()) {
      kept.clear();
      taken = 0;
    }
  }

  void keep(std::span<const std::byte> bytes) {
    kept.erase(0, std::exchange(taken, 0));
    const size_t room = capacity - std::min(capacity, kept.size());
    if (bytes.size() > room && has_reader()) {
      dropped += bytes.size() - room;
      bytes = bytes.first(room);
    } else if (bytes.size() > room) {
      const size_t excess = bytes.size() - room;
      dropped += excess;
      const size_t old = std::min(excess, kept.size());
      kept.erase(0, old);
      bytes = bytes.subspan(excess - old);
    }
    kept.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  // With `mutex` held. The watch itself belongs to the loop's thread.
  void wait_for_room() {
    if (!has_reader() || kept.empty() || std::exchange(waiting, true)) return;
    loop.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->start_watch();
    });
  }

  void start_watch() {
    const std::lock_guard lock{mutex};
    if (!waiting || watch) return;  // a second call of wait_for_room() after a reader left: one watch does
    watch = loop.watch(stream.get(), EPOLLOUT, [weak = weak_from_this()](uint32_t) {
      if (const auto self = weak.lock()) self->on_room();
    });
  }

  void on_room() {
    const std::lock_guard lock{mutex};
    drain();
    if (has_reader() && !kept.empty()) return;
    waiting = false;
    watch.reset();
  }
};

OutputStream::OutputStream(EventLoop& loop, Broken broken, size_t capacity)
    : state_(std::make_shared<State>(loop, broken, capacity)) {}

OutputStream::~OutputStream() {
  const auto deadline = std::chrono::steady_clock::now() + kFarewell;
  {
    const std::lock_guard lock{state_->mutex};
    while (state_->has_reader() && !state_->kept.empty()) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      pollfd room{.fd = state_->stream.get(), .events = POLLOUT, .revents = 0};
      if (left.count() <= 0 || ::poll(&room, 1, static_cast<int>(left.count())) <= 0) break;
      state_->drain();
    }
  }
  detach();
}

void OutputStream::attach(StreamFd stream) {
  detach();
  const std::lock_guard lock{state_->mutex};
  state_->stream = std::move(stream);
  state_->broken = false;
  state_->drain();
  state_->wait_for_room();
}

void OutputStream::detach() {
  const std::lock_guard lock{state_->mutex};
  state_->watch.reset();  // before the descriptor it watches is closed
  state_->waiting = false;
  state_->stream = StreamFd{};
}

void OutputStream::write(std::span<const std::byte> bytes) {
  const std::lock_guard lock{state_->mutex};
  if (state_->kept.empty()) bytes = bytes.subspan(state_->push(bytes));
  if (bytes.empty()) return;
  state_->keep(bytes);
  state_->wait_for_room();
}

uint64_t OutputStream::dropped() const {
  return state_->dropped.load();
}

}  // namespace vmm::backend
