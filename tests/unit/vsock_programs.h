// SPDX-License-Identifier: Apache-2.0
//
// The host's programs that talk to a guest's sockets, for tests: clients and servers of Unix sockets in a
// folder of the test's own.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "devices/backend/listening_socket.h"
#include "vmm/core/fd.h"

namespace vmm {

class VsockFolder {
 public:
  VsockFolder() {
    std::string name = "/tmp/vsockXXXXXX";  // short: the path of a socket has 107 bytes
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  ~VsockFolder() { std::filesystem::remove_all(folder_); }
  VsockFolder(const VsockFolder&) = delete;
  VsockFolder& operator=(const VsockFolder&) = delete;

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "vm"; }
  // A server that the guest finds at this port.
  [[nodiscard]] std::unique_ptr<backend::ListeningSocket> listen(uint32_t port) const {
    auto listener =
        backend::ListeningSocket::create(path().string() + "_" + std::to_string(port), "test server");
    EXPECT_TRUE(listener) << listener.error().message;
    return std::move(*listener);
  }

 private:
  std::filesystem::path folder_;
};

// Writes what has to fit into the socket at once.
inline void say(const Fd& program, std::string_view text) {
  EXPECT_EQ(::send(program.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

// A client of the guest that has said `line`.
inline Fd call(const std::filesystem::path& path, std::string_view line) {
  auto client = backend::connect_to_socket(path, "test client");
  EXPECT_TRUE(client) << client.error().message;
  say(*client, line);
  return std::move(*client);
}

// What arrives until there is `enough`, the connection ends, or ten seconds have passed.
inline std::string hear(const Fd& program, size_t enough = ~size_t{0}) {
  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  while (text.size() < enough && std::chrono::steady_clock::now() < deadline) {
    pollfd ready{.fd = program.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 1000) != 1) continue;
    std::array<char, 65536> bytes;
    const auto count =
        ::recv(program.get(), bytes.data(), std::min(bytes.size(), enough - text.size()), MSG_DONTWAIT);
    if (count <= 0) break;
    text.append(bytes.data(), static_cast<size_t>(count));
  }
  return text;
}

// True if the connection has ended, or does within ten seconds.
inline bool ends(const Fd& program) {
  pollfd state{.fd = program.get(), .events = POLLIN, .revents = 0};
  char byte = 0;
  return ::poll(&state, 1, 10000) == 1 && ::recv(program.get(), &byte, 1, MSG_DONTWAIT) <= 0;
}

// The next client, which must come within ten seconds.
inline Fd accept(const backend::ListeningSocket& listener) {
  pollfd ready{.fd = listener.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ready, 1, 10000), 1) << "nobody connects";
  Fd client = listener.accept();
  EXPECT_EQ(::fcntl(client.get(), F_SETFL, 0), 0);  // its owner may wait
  return client;
}

}  // namespace vmm
