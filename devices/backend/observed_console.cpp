// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/observed_console.h"

#include <atomic>

namespace vmm::backend {

struct ObservedConsole::Typist : std::enable_shared_from_this<ObservedConsole::Typist> {
  explicit Typist(EventLoop& on) : loop(on) {}

  EventLoop& loop;
  Input input;  // loop's thread
  std::mutex mutex;
  std::string text;  // not yet taken; guarded by mutex
  // Set before the device is offered anything: a resume() that comes while it is being offered is not lost.
  std::atomic<bool> refused{false};

  // False while typed text waits: what the user types comes after it.
  bool offer() {
    if (!input) return false;
    std::string next;
    {
      const std::lock_guard lock{mutex};
      next = text;
    }
    if (next.empty()) return true;
    refused.store(true);
    const size_t taken = std::min(input(std::as_bytes(std::span{next})), next.size());
    const std::lock_guard lock{mutex};
    text.erase(0, taken);
    if (!text.empty()) return false;
    refused.store(false);
    return true;
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

void ObservedConsole::write(std::span<const std::byte> bytes) {
  const std::lock_guard lock{order_};
  console_->write(bytes);
  observer_(bytes);
}

void ObservedConsole::set_input(Input input) {
  typist_->input = std::move(input);
  console_->set_input([typist = typist_](std::span<const std::byte> bytes) {
    return typist->offer() ? typist->input(bytes) : 0;
  });
}

void ObservedConsole::resume() {
  if (!typist_->refused.exchange(false)) return console_->resume();
  // The user's input may have been refused behind the typed text.
  typist_->loop.post([weak = std::weak_ptr{typist_}, this_console = console_.get()] {
    const auto typist = weak.lock();
    if (typist && typist->offer()) this_console->resume();
  });
}

}  // namespace vmm::backend
