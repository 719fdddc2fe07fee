// SPDX-License-Identifier: Apache-2.0
//
// Requests and answers over a Unix socket, a line each, for any number of clients. Nothing a client does
// makes the server wait: who sends no end of a line, takes no answer or just stays is dropped or left alone.
// A client's next request is looked at when its last has been answered and the answer taken.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "devices/backend/listening_socket.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"

namespace vmm {

class LineServer {
 public:
  static constexpr size_t kLongestRequest = size_t{64} << 10;  // bytes; who sends a longer one is dropped
  static constexpr size_t kMostClients = 16;  // one more, and the longest idle one is dropped

  // Answers a request, exactly once, now or later, on the loop's thread. A line's end is added. An answer for
  // a client that has gone is dropped.
  using Answer = std::function<void(std::string)>;
  using Handler = std::function<void(std::string_view request, Answer answer)>;

  // Everything is called on the loop's thread. `what` names the socket in errors.
  static Result<std::unique_ptr<LineServer>> create(EventLoop& loop, const std::filesystem::path& path,
                                                    std::string_view what, Handler handler);
  LineServer(const LineServer&) = delete;
  LineServer& operator=(const LineServer&) = delete;
  ~LineServer() = default;

 private:
  struct Client {
    Fd socket;
    EventLoop::Watch watch;
    uint32_t watched = 0;  // the events of `watch`
    std::string input;     // not yet looked at
    std::string output;    // not yet taken
    bool asking = false;   // its request is being answered
    uint64_t used = 0;     // when it last asked, by requests_
  };

  LineServer(EventLoop& loop, Handler handler);
  void handle_arrival(Fd socket);
  void handle_client(uint64_t id, uint32_t events);
  void go_on(uint64_t id);
  bool send(Client& client);
  bool receive(Client& client);
  void ask(uint64_t id, Client& client, std::string_view request);
  void wait(uint64_t id, Client& client, uint32_t events);

  EventLoop& loop_;
  const Handler handler_;
  std::unique_ptr<backend::Acceptor> acceptor_;
  std::map<uint64_t, Client> clients_;
  uint64_t next_id_ = 0;
  uint64_t requests_ = 0;
  std::shared_ptr<LineServer*> self_;  // tells late answers and posted work whether this is still there
};

// The other side, for a program that asks one thing: sends `request` to the socket at `path` and returns the
// answer, without the lines' ends. Fails if the server does nothing for as long as `patience`.
Result<std::string> ask_line_server(const std::filesystem::path& path, std::string_view what,
                                    std::string request,
                                    std::chrono::milliseconds patience = std::chrono::seconds{10});

}  // namespace vmm
