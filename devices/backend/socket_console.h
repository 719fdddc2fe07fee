// SPDX-License-Identifier: Apache-2.0
//
// A console behind a Unix socket: one client at a time, any number one after the other. What the guest says
// while nobody is there is kept, the latest of it, and is the first thing the next client sees.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "devices/backend/console.h"
#include "devices/backend/input_slot.h"
#include "devices/backend/listening_socket.h"
#include "devices/backend/output_stream.h"

namespace vmm::backend {

class SocketConsole final : public Console {
 public:
  // Before the loop runs. To be destroyed on the loop's thread, or when the loop has stopped.
  static Result<std::unique_ptr<SocketConsole>> create(EventLoop& loop, const std::filesystem::path& path);

  void write(std::span<const std::byte> bytes) override { output_.write(bytes); }
  void set_input(Input input) override { input_.set_input(std::move(input)); }
  void resume() override { input_.resume(); }
  [[nodiscard]] WindowSize window() const override { return {}; }
  void set_resize(std::function<void(WindowSize)>) override {}
  [[nodiscard]] uint64_t dropped() const override { return output_.dropped(); }

 private:
  explicit SocketConsole(EventLoop& loop);
  void handle_arrival(Fd client);
  void welcome(Fd client);
  void handle_end();

  EventLoop& loop_;
  std::unique_ptr<Acceptor> acceptor_;
  OutputStream output_;
  InputSlot input_;
  int client_ = -1;                       // borrowed from input_
  uint64_t clients_ = 0;                  // so far: numbers of descriptors come again
  std::shared_ptr<SocketConsole*> self_;  // tells work posted to the loop whether this is still there
};

}  // namespace vmm::backend
