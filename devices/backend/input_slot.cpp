// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/input_slot.h"

#include <utility>

namespace vmm::backend {

void InputSlot::open(EventLoop& loop, StreamFd stream, InputStream::Options options) {
  const std::lock_guard change{change_mutex_};
  {
    const std::lock_guard use{use_mutex_};
    stream_.emplace(loop, std::move(stream), std::move(options));
  }
  stream_->set_input(input_);
}

void InputSlot::close() {
  const std::lock_guard change{change_mutex_};
  const std::lock_guard use{use_mutex_};
  stream_.reset();
}

void InputSlot::set_input(Console::Input input) {
  const std::lock_guard change{change_mutex_};
  input_ = std::move(input);
  if (stream_) stream_->set_input(input_);
}

void InputSlot::resume() {
  const std::lock_guard use{use_mutex_};
  if (stream_) stream_->resume();
}

}  // namespace vmm::backend
