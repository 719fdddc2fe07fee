// SPDX-License-Identifier: Apache-2.0
//
// vsock connect CID PORT    connects to a socket of the host (CID 2)
// vsock listen PORT         waits for one connection
//
// Then sends its standard input, and writes what it receives to its standard output, until both have ended.
// The end of the input is told to the other side, who may go on sending (vsock(7)).
#include "guest/init/runtime.h"
#include "guest/init/text.h"

namespace guest {
namespace {

// From <sys/socket.h> and <linux/vm_sockets.h>, which wants the former.
constexpr long kFamily = 40;        // AF_VSOCK
constexpr long kStream = 1;         // SOCK_STREAM
constexpr long kNoMoreSending = 1;  // SHUT_WR
constexpr uint32_t kAnyCid = ~0U;   // VMADDR_CID_ANY
struct Address {                    // struct sockaddr_vm
  uint16_t family = kFamily;
  uint16_t reserved = 0;
  uint32_t port;
  uint32_t cid;
  uint32_t zero = 0;
};
static_assert(sizeof(Address) == 16);

// All 32 bits of it; what is no digit ends it.
uint32_t parse(Text text) {
  uint32_t value = 0;
  for (size_t i = 0; i < text.size && text[i] >= '0' && text[i] <= '9'; ++i) {
    value = value * 10 + static_cast<uint32_t>(text[i] - '0');
  }
  return value;
}

int refused(const char* what, long error) {
  char digits[24];
  say("vsock: ", what, ": error ", decimal(-error, digits));
  return 1;
}

// Everything from one descriptor to another.
void copy(long from, long to) {
  static char bytes[65536];
  for (long count = 0; (count = sys::read(from, bytes, sizeof bytes)) > 0;) {
    for (long done = 0; done < count;) {
      const long written = sys::write(to, bytes + done, static_cast<size_t>(count - done));
      if (written <= 0) return;
      done += written;
    }
  }
}

int exchange(long socket) {
  const long child = sys::call(__NR_fork);
  if (child < 0) return refused("fork", child);
  if (child == 0) {
    copy(0, socket);
    sys::call(__NR_shutdown, socket, kNoMoreSending);
    return 0;
  }
  copy(socket, 1);
  sys::close(1);
  sys::call(__NR_wait4, child, 0, 0, 0);
  return 0;
}

int connect(long socket, uint32_t cid, uint32_t port) {
  const Address address{.port = port, .cid = cid};
  const long error = sys::call(__NR_connect, socket, sys::as_long(&address), sizeof address);
  return error < 0 ? refused("connect", error) : exchange(socket);
}

int listen(long socket, uint32_t port) {
  const Address address{.port = port, .cid = kAnyCid};
  long error = sys::call(__NR_bind, socket, sys::as_long(&address), sizeof address);
  if (error >= 0) error = sys::call(__NR_listen, socket, 1);
  if (error < 0) return refused("listen", error);
  const long connection = sys::call(__NR_accept4, socket, 0, 0, 0);
  if (connection < 0) return refused("accept", connection);
  sys::close(socket);
  return exchange(connection);
}

}  // namespace

int run(int argc, char** argv, char** /*envp*/) {
  const Text verb = argc > 1 ? argv[1] : "";
  const bool connects = verb == "connect" && argc == 4;
  if (!connects && !(verb == "listen" && argc == 3)) {
    say("usage: vsock connect CID PORT | vsock listen PORT");
    return 2;
  }
  const long socket = sys::call(__NR_socket, kFamily, kStream, 0);
  if (socket < 0) return refused("make a socket", socket);
  return connects ? connect(socket, parse(argv[2]), parse(argv[3])) : listen(socket, parse(argv[2]));
}

}  // namespace guest
