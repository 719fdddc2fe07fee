// SPDX-License-Identifier: Apache-2.0
//
// The host's side of a guest's stream sockets, as Unix sockets. A program that wants to talk to the guest's
// port N connects to PATH and writes "CONNECT N\n"; once the guest has accepted, the answer is "OK n\n", with
// the port that it has for the guest, and what follows is the guest's. If the guest refuses, the connection
// is closed. A guest that wants to talk to port N of the host finds the program that listens at PATH_N. Other
// monitors have the same rules, so their clients can be used.
//
// Everything is on the loop's thread, or before the loop runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "devices/backend/listening_socket.h"
#include "devices/backend/unix_stream.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class VsockHost {
 public:
  static constexpr std::string_view kLongestSuffix = "_4294967295";
  static constexpr size_t kLongestPath = 107 - kLongestSuffix.size();  // unix(7): sun_path has 108 bytes
  static constexpr size_t kMostWaiting = 64;  // clients that have not said what they want

  // Makes the socket at `path`, which is removed when this is destroyed.
  static Result<std::unique_ptr<VsockHost>> create(EventLoop& loop, const std::filesystem::path& path);
  VsockHost(const VsockHost&) = delete;
  VsockHost& operator=(const VsockHost&) = delete;
  ~VsockHost() = default;

  // Called when a program wants to talk to a port of the guest. While there is none, nobody can.
  using Arrival = std::function<void(uint32_t port, std::unique_ptr<UnixStream> stream)>;
  void set_arrival(Arrival arrival) { arrival_ = std::move(arrival); }
  // Tells such a program that the guest has accepted; before anything else is written to it.
  static void confirm(UnixStream& stream, uint32_t host_port);

  // The program that listens at PATH_port; none if there is none, or if it cannot take more just now.
  std::unique_ptr<UnixStream> connect(uint32_t port);

  // For a stream that is done with on our side: its program gets what was kept for it, then it is closed.
  void linger(std::unique_ptr<UnixStream> stream);
  [[nodiscard]] size_t lingering() const { return lingering_.size(); }

 private:
  struct Client {  // has not said yet which port it wants
    Fd socket;
    std::string line;
    EventLoop::Watch watch;
  };

  VsockHost(EventLoop& loop, std::filesystem::path path);
  void handle_arrival(Fd socket);
  void handle_client(uint64_t id);

  EventLoop& loop_;
  const std::filesystem::path path_;
  std::unique_ptr<Acceptor> acceptor_;
  Arrival arrival_;
  std::map<uint64_t, Client> waiting_;  // in the order in which they came
  std::map<uint64_t, std::unique_ptr<UnixStream>> lingering_;
  uint64_t next_id_ = 0;
};

}  // namespace vmm::backend
