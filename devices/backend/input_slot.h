// SPDX-License-Identifier: Apache-2.0
//
// The input of a console whose source comes and goes (clients of a socket, a terminal that is in the
// background for a while) under a device that stays, or the other way round.
#pragma once

#include <mutex>
#include <optional>

#include "devices/backend/input_stream.h"

namespace vmm::backend {

class InputSlot {
 public:
  // Loop's thread, or before the loop runs.
  void open(EventLoop& loop, StreamFd stream, InputStream::Options options);
  void close();
  [[nodiscard]] bool is_open() const { return stream_.has_value(); }

  // As Console's.
  void set_input(Console::Input input);
  void resume();

 private:
  // Two, because set_input() waits for an input that runs, and that input may call resume().
  std::mutex change_mutex_;  // held to change stream_ or input_
  std::mutex use_mutex_;     // held to change stream_, and to use it without change_mutex_
  Console::Input input_;
  std::optional<InputStream> stream_;
};

}  // namespace vmm::backend
