// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/observed_console.h"

#include <atomic>

namespace vmm::backend {

struct ObservedConsole::Typist : std::enable_shared_from_this<ObservedConsole::Typist> {
  explicit Typist(EventLoop& on) : loop(on) {}

  EventLoop& loop;
  std::mutex input_mutex;  // held while the input runs: whoever takes it away waits for that
  Input input;             // guarded by input_mutex
  std::atomic<uint64_t> bytes_in{0};
  std::mutex mutex;
  std::string text;  // not yet taken; guarded by mutex
  // Set before the device is offered anything: a resume() that comes while it is being offered is not lost.
  std::atomic<bool> refused{false};

  // Typed text first. Then what the user typed, of which the device takes so many bytes.
  size_t offer(std::span<const std::byte> users = {}) {
    const std::lock_guard lock{input_mutex};
    return offer_typed() && !users.empty() ? give(users) : 0;
  }

  size_t give(std::span<const std::byte> bytes) {
    const size_t taken = std::min(input(bytes), bytes.size());
    bytes_in.fetch_add(taken, std::memory_order_relaxed);
    return taken;
  }

  // False while typed text waits.
  bool offer_typed() {
    if (!input) return false;
    std::string next;
    {
      const std::lock_guard lock{mutex};
      next = text;
    }
    if (next.empty()) return true;
    refused.store(true);
    const size_t taken = give(std::as_bytes(std::span{next}));
    const std::lock_guard lock{mutex};
    text.erase(0, taken);
    if (!text.empty()) return false;
    refused.store(false);
    return true;
  }

  bool has_text() {
    const std::lock_guard lock{mutex};
    return !text.empty();
  }
};

ObservedConsole::ObservedConsole(EventLoop& loop, std::unique_ptr<Console> console, Observer observer)
    : console_(std::move(console)), observer_(std::move(observer)), typist_(std::make_shared<Typist>(loop)) {}

void ObservedConsole::type(std::string_view text) {
  {
    const std::lock_guard lock{typist_->mutex};
    typist_->text += text;
  }
  typist_->loop.post([weak = std::weak_ptr{typist_}] {
    if (const auto typist = weak.lock()) typist->offer();
  });
}

uint64_t ObservedConsole::bytes_in() const {
  return typist_->bytes_in.load(std::memory_order_relaxed);
}

void ObservedConsole::write(std::span<const std::byte> bytes) {
  const std::lock_guard lock{order_};
  bytes_out_.fetch_add(bytes.size(), std::memory_order_relaxed);
  console_->write(bytes);
  observer_(bytes);
}

void ObservedConsole::set_input(Input input) {
  const bool some = static_cast<bool>(input);
  {
    const std::lock_guard lock{typist_->input_mutex};
    typist_->input = std::move(input);
  }
  if (!some) return console_->set_input({});
  console_->set_input([typist = typist_](std::span<const std::byte> bytes) { return typist->offer(bytes); });
  type({});  // what was typed while nobody listened
}

void ObservedConsole::resume() {
  if (!typist_->refused.exchange(false)) return console_->resume();
  // The user's input may have been refused behind the typed text.
  typist_->loop.post([weak = std::weak_ptr{typist_}, console = console_.get()] {
    const auto typist = weak.lock();
    if (!typist) return;
    typist->offer();
    if (!typist->has_text()) console->resume();
  });
}

}  // namespace vmm::backend
