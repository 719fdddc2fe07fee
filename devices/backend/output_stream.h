// SPDX-License-Identifier: Apache-2.0
//
// Output from any thread that never waits for its reader: what the stream takes is written at once, the rest
// is kept in order up to a bound and written by the event loop as the reader takes it, and beyond that it is
// dropped and counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "devices/backend/stream_fd.h"
#include "vmm/core/event_loop.h"

namespace vmm::backend {

class OutputStream {
 public:
  static constexpr size_t kCapacity = size_t{1} << 20;  // bytes kept for a slow reader

  // What becomes of output once the reader has gone for good.
  enum class Broken : uint8_t { drop, keep_for_next };

  explicit OutputStream(EventLoop& loop, Broken broken = Broken::drop, size_t capacity = kCapacity);
  // On the loop's thread, or when the loop has stopped. Gives a reader that still reads up to a second to
  // take what is kept: the last lines of a guest matter most.
  ~OutputStream();
  OutputStream(const OutputStream&) = delete;
  OutputStream& operator=(const OutputStream&) = delete;

  // Loop's thread (or before it runs): where output goes from now on, what is kept first. Without a stream
  // (or with a broken one and keep_for_next) the latest output is kept, the oldest dropped.
  void attach(StreamFd stream);
  void detach();

  void write(std::span<const std::byte> bytes);  // any thread
  [[nodiscard]] uint64_t dropped() const;        // any thread: bytes

 private:
  struct State;
  std::shared_ptr<State>
      state_;  // shared with work posted to the loop, which may run after the stream has gone
};

}  // namespace vmm::backend
