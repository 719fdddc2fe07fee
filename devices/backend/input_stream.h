// SPDX-License-Identifier: Apache-2.0
//
// Input for a device that takes it at its own pace. While the device is full nothing more is read, except as
// far as a filter must see every key at once. Everything is on the loop's thread but what says
// otherwise.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "devices/backend/console.h"
#include "devices/backend/stream_fd.h"
#include "vmm/core/event_loop.h"

namespace vmm::backend {

class InputStream {
 public:
  // Appends to `out` what the device is to see of `in`.
  using Filter = std::function<void(std::span<const std::byte> in, std::string& out)>;
  struct Options {
    Filter filter = {};                // none: everything
    size_t type_ahead = 0;             // bytes read on while the device is full; more are lost
    std::function<void()> ended = {};  // end of input, or an error; called once
  };

  InputStream(EventLoop& loop, StreamFd stream, Options options);
  ~InputStream();  // loop's thread, or when the loop has stopped
  InputStream(const InputStream&) = delete;
  InputStream& operator=(const InputStream&) = delete;

  // Any thread, not from within `input`: starts reading. When it returns the input before is not running.
  void set_input(Console::Input input);
  void resume();  // any thread: the device has room again

 private:
  struct State;
  std::shared_ptr<State>
      state_;  // shared with work posted to the loop, which may run after the stream has gone
};

}  // namespace vmm::backend
