// SPDX-License-Identifier: Apache-2.0
//
// A connection with a program of this host that never waits for it: what the program does not take at once
// is kept, and written as it does. How much that is, is the user's to bound. Everything is on the loop's
// thread.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "vmm/core/event_loop.h"
#include "vmm/core/fd.h"

namespace vmm::backend {

class UnixStream {
 public:
  UnixStream(EventLoop& loop, Fd socket);
  ~UnixStream() = default;  // closes at once; what was kept is lost
  UnixStream(const UnixStream&) = delete;
  UnixStream& operator=(const UnixStream&) = delete;

  // Called when there is something to read, when something kept was taken, and when the program has gone;
  // never from within a call. It may destroy the stream.
  void set_changed(std::function<void()> changed) { changed_ = std::move(changed); }

  // True if read() is worth trying: data, or the end.
  [[nodiscard]] bool readable() const { return readable_; }
  // Bytes read; 0 at the end; -EAGAIN when nothing has come; another -errno.
  ptrdiff_t read(std::span<const iovec> into);

  void write(std::span<const iovec> bytes);  // takes all of it
  [[nodiscard]] size_t kept() const { return kept_.size() - taken_; }
  // The program takes nothing any more: what is written is thrown away.
  [[nodiscard]] bool broken() const { return broken_; }

  void end_output();  // no more write(): the program finds the end behind what was written
  void end_input();   // no more read(): the program's writes fail

 private:
  [[nodiscard]] uint32_t needed() const;
  void wait();
  void watch(uint32_t events);
  void handle(uint32_t events);
  ptrdiff_t send(std::span<const iovec> bytes);
  void drain();
  void break_output();

  EventLoop& loop_;
  const Fd socket_;
  std::function<void()> changed_;
  std::string kept_;
  size_t taken_ = 0;       // bytes at the start of kept_ that the program has
  bool readable_ = false;  // not watched while it is: nobody may be able to read on just now
  bool ended_ = false;     // there is no more to read
  bool ending_ = false;    // end_output()
  bool broken_ = false;
  bool hung_up_ = false;
  uint32_t watched_ = 0;
  EventLoop::Watch watch_;
};

}  // namespace vmm::backend
