// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/listening_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace vmm::backend {
namespace {

Result<sockaddr_un> address_of(const std::filesystem::path& path, std::string_view what) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto& name = path.native();
  if (name.empty() || name.size() >= sizeof address.sun_path) {
    return fail("{} {}: the path has {} bytes, 1 to {} are possible; use a shorter one", what, name,
                name.size(), sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// True if there is a socket at the path and no process behind it.
bool is_left_behind(const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Fd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  return probe && ::connect(probe.get(), generic(address), sizeof address) != 0 && errno == ECONNREFUSED;
}

Result<Fd> connect(const std::filesystem::path& path, std::string_view what, int flags) {
  VMM_TRY_ASSIGN(const auto address, address_of(path, what));
  Fd connection{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0)};
  if (!connection || ::connect(connection.get(), generic(address), sizeof address) != 0) {
    return fail(errno, "connect to {} {}", what, path.native());
  }
  return connection;
}

}  // namespace

Result<std::unique_ptr<ListeningSocket>> ListeningSocket::create(const std::filesystem::path& path,
                                                                 std::string_view what) {
  VMM_TRY_ASSIGN(const auto address, address_of(path, what));
  Fd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!listener) return fail(errno, "make {} {}", what, path.native());
  // The mode of the descriptor is the mode that bind(2) gives the file: it is never there with a wider one.
  if (::fchmod(listener.get(), 0600) != 0) return fail(errno, "make {} {}", what, path.native());
  int bound = ::bind(listener.get(), generic(address), sizeof address);
  if (bound != 0 && errno == EADDRINUSE) {
    if (!is_left_behind(address)) {
      return fail("make {} {}: something is there already and in use; choose another path", what,
                  path.native());
    }
    ::unlink(path.c_str());
    bound = ::bind(listener.get(), generic(address), sizeof address);
  }
  struct stat status{};
  if (bound != 0 || ::listen(listener.get(), 4) != 0 || ::lstat(path.c_str(), &status) != 0) {
    return fail(errno, "make {} {}", what, path.native());
  }
  return std::unique_ptr<ListeningSocket>{new ListeningSocket{std::move(listener), path, status.st_ino}};
}

ListeningSocket::ListeningSocket(Fd listener, std::filesystem::path path, ino_t inode)
    : listener_(std::move(listener)), path_(std::move(path)), inode_(inode) {}

ListeningSocket::~ListeningSocket() {
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && status.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

Fd ListeningSocket::accept() const {
  return Fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
}

Result<Fd> connect_to_socket(const std::filesystem::path& path, std::string_view what) {
  return connect(path, what, 0);
}

Result<Fd> connect_without_waiting(const std::filesystem::path& path, std::string_view what) {
  return connect(path, what, SOCK_NONBLOCK);
}

}  // namespace vmm::backend
