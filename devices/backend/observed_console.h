// SPDX-License-Identifier: Apache-2.0
//
// A console that somebody watches and types at beside its user: how automated tests follow a boot.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "devices/backend/console.h"
#include "vmm/core/event_loop.h"

namespace vmm::backend {

class ObservedConsole final : public Console {
 public:
  // Called with all output in its order, on whichever thread writes it, one call at a time; it must be quick
  // and must not write to this console.
  using Observer = std::function<void(std::span<const std::byte>)>;
  ObservedConsole(EventLoop& loop, std::unique_ptr<Console> console, Observer observer);

  // Any thread: gives the guest these bytes, at its pace, ahead of what the user types from now on.
  void type(std::string_view text);

  void write(std::span<const std::byte> bytes) override;
  void set_input(Input input) override;
  void resume() override;
  [[nodiscard]] WindowSize window() const override { return console_->window(); }
  void set_resize(std::function<void(WindowSize)> resized) override {
    console_->set_resize(std::move(resized));
  }
  [[nodiscard]] uint64_t dropped() const override { return console_->dropped(); }

  // Any thread.
  [[nodiscard]] uint64_t bytes_in() const;  // to the guest
  [[nodiscard]] uint64_t bytes_out() const { return bytes_out_.load(std::memory_order_relaxed); }

 private:
  struct Typist;
  std::unique_ptr<Console> console_;
  std::mutex order_;  // of output: the observer sees what the user sees
  Observer observer_;
  std::atomic<uint64_t> bytes_out_{0};
  std::shared_ptr<Typist> typist_;  // shared with work posted to the loop, which may run after this has gone
};

}  // namespace vmm::backend
