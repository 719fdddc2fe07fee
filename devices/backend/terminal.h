// SPDX-License-Identifier: Apache-2.0
//
// The console on standard input and output. On a terminal: raw mode, the Ctrl-A keys (escape_keys.h) and the
// size of its window. On a pipe or a file: every byte is the guest's, and the end of input is just the end of
// input. In the background (`vmm … &`, or under timeout(1)) the terminal is left to whoever has it until
// SIGCONT says that this changed: a shell stops a background job that reads its terminal or sets its mode.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "devices/backend/console.h"
#include "devices/backend/escape_keys.h"
#include "devices/backend/input_slot.h"
#include "devices/backend/output_stream.h"
#include "devices/backend/raw_mode.h"

namespace vmm::backend {

class Terminal final : public Console {
 public:
  // `quit` is called on the loop's thread when the user asks for the end. `input` and `output` must stay
  // open.
  static Result<std::unique_ptr<Terminal>> create(EventLoop& loop, std::function<void()> quit, int input = 0,
                                                  int output = 1);
  ~Terminal() override = default;  // loop's thread, or when the loop has stopped

  void write(std::span<const std::byte> bytes) override;
  void set_input(Input input) override;
  void resume() override;
  [[nodiscard]] WindowSize window() const override;
  void set_resize(std::function<void(WindowSize)> resized) override;
  [[nodiscard]] uint64_t dropped() const override;

  // Any thread (not a signal handler), after SIGWINCH and SIGCONT.
  void window_changed();
  void continued();

 private:
  Terminal(EventLoop& loop, std::function<void()> quit, int input);
  Result<void> attend();
  void filter(std::span<const std::byte> in, std::string& out);
  void read_window();

  EventLoop& loop_;
  std::function<void()> quit_;
  EscapeKeys keys_;
  std::atomic<WindowSize> window_{WindowSize{}};
  std::mutex resize_mutex_;                  // held while resized_ runs: whoever takes it away waits for that
  std::function<void(WindowSize)> resized_;  // guarded by resize_mutex_
  const int source_;                         // where input comes from
  bool interactive_ = false;                 // it is a terminal
  // Destroyed in reverse: what is kept is written first, then the mode restored through the terminal.
  Fd terminal_;  // whichever end is one
  RawMode raw_mode_;
  OutputStream output_;
  InputSlot input_;                  // closed: no input, or the terminal is another's for now
  std::shared_ptr<Terminal*> self_;  // tells work posted to the loop whether this is still there
};

}  // namespace vmm::backend
