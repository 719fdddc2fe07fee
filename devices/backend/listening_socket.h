// SPDX-License-Identifier: Apache-2.0
//
// Unix stream sockets that wait for clients at a path, for their owner only (mode 0600).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "vmm/core/event_loop.h"
#include "vmm/core/fd.h"
#include "vmm/core/log.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class ListeningSocket {
 public:
  // A socket left behind by a process that is gone is replaced. `what` names it in errors: "console socket".
  // It is made beside the path (PATH.xxxxxxxx) and moved there when it listens: what is at the path has never
  // refused a client while its process was there.
  static Result<std::unique_ptr<ListeningSocket>> create(const std::filesystem::path& path,
                                                         std::string_view what);
  ~ListeningSocket();  // removes the socket, unless another's is there by now
  ListeningSocket(const ListeningSocket&) = delete;
  ListeningSocket& operator=(const ListeningSocket&) = delete;

  [[nodiscard]] int get() const { return listener_.get(); }  // readable when a client waits
  [[nodiscard]] Fd accept() const;                           // the next one, non-blocking; none if none waits

 private:
  ListeningSocket(Fd listener, std::filesystem::path path, ino_t inode);

  const Fd listener_;
  std::filesystem::path path_;  // where it is
  const ino_t inode_;
};

// Accepts clients on a loop's thread, as they come.
class Acceptor {
 public:
  using Arrival = std::function<void(Fd client)>;  // non-blocking

  // On the loop's thread, or before it runs, as is all else.
  static Result<std::unique_ptr<Acceptor>> create(EventLoop& loop, const std::filesystem::path& path,
                                                  std::string_view what, Arrival arrival);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  ~Acceptor() = default;

 private:
  Acceptor(EventLoop& loop, std::unique_ptr<ListeningSocket> socket, std::string name, Arrival arrival);
  void watch();
  void handle_arrival();

  EventLoop& loop_;
  const std::unique_ptr<ListeningSocket> socket_;
  const std::string name_;
  const Arrival arrival_;
  EventLoop::Watch watch_;
  std::unique_ptr<Timer> pause_;  // made beforehand: it takes a descriptor
  LogLimit complaints_{8};
};

// The other side: a connection to the socket at `path`. It, and then each call on the connection, waits for
// the listener for `patience` at most, and is EAGAIN after that.
Result<Fd> connect_to_socket(const std::filesystem::path& path, std::string_view what,
                             std::chrono::milliseconds patience = std::chrono::seconds{10});
// The same, non-blocking from the start: fails also where the listener has not accepted others yet and can
// queue no more.
Result<Fd> connect_without_waiting(const std::filesystem::path& path, std::string_view what);

}  // namespace vmm::backend
