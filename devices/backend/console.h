// SPDX-License-Identifier: Apache-2.0
//
// What a console device talks to: a stream of bytes to and from a person, a file or a socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace vmm::backend {

struct WindowSize {
  uint16_t columns = 80;
  uint16_t rows = 25;
  friend bool operator==(const WindowSize&, const WindowSize&) = default;
};

class Console {
 public:
  virtual ~Console() = default;
  // Any thread. Never blocks: what the reader does not take is kept up to a bound, then dropped and counted.
  virtual void write(std::span<const std::byte> bytes) = 0;

  // Input comes on the loop's thread, through `input`: it returns how many bytes it took; the rest is offered
  // again after resume(). Nothing is read from the source in between, so input never piles up. set_input()
  // may be called on any thread, but not from within `input`; when it returns the one before is not running
  // and is not called again. None: input waits.
  using Input = std::function<size_t(std::span<const std::byte>)>;
  virtual void set_input(Input input) = 0;
  virtual void resume() = 0;  // any thread: there is room again

  // The size of the reader's window, where it has one, and a call on the loop's thread when it changes; the
  // same rules as for set_input().
  [[nodiscard]] virtual WindowSize window() const = 0;
  virtual void set_resize(std::function<void(WindowSize)> resized) = 0;

  [[nodiscard]] virtual uint64_t dropped() const = 0;  // bytes of output nobody took
};

}  // namespace vmm::backend
