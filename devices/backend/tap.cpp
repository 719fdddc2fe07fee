// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <net/if.h>

#include "devices/backend/vnet_header.h"
#include "vmm/core/log.h"

namespace vmm::backend {
namespace {

constexpr uint32_t kOffloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

ifreq request_for(std::string_view name) {
  ifreq request{};
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  return request;
}

// As the kernel's own rule for names, and no '%', which would make it choose a number.
Result<void> check_name(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return fail("tap name '{}' has {} characters; use 1 to {}", name, name.size(), IFNAMSIZ - 1);
  }
  const bool bad = std::any_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == ':' || c == '%' || static_cast<unsigned char>(c) <= ' ' || c == 0x7f;
  });
  if (bad || name == "." || name == "..") {
    return fail("tap name '{}' is not possible; use letters, digits, '-' and '_'", name);
  }
  return {};
}

tl::unexpected<Error> refusal(std::string_view name, int error, bool exists) {
  const auto make =
      fmt::format("sudo ip tuntap add dev {0} mode tap user $(id -un) && sudo ip link set {0} up", name);
  if (error == EBUSY) {
    return fail("open tap {}: another process has it; end that, or use another tap", name);
  }
  if (error == EPERM && exists) {
    return fail("open tap {}: it belongs to another user; delete it (sudo ip link del {}) and run: {}", name,
                name, make);
  }
  if (error == EPERM) {
    return fail("open tap {}: there is none and making one needs CAP_NET_ADMIN; run: {}", name, make);
  }
  if (error == EINVAL && exists) {
    return fail(
        "open tap {}: this interface is not a tap; use another name, or run: sudo ip tuntap add dev NAME "
        "mode "
        "tap user $(id -un)",
        name);
  }
  return fail(error, "open tap {}", name);
}

}  // namespace

Result<std::unique_ptr<Tap>> Tap::create(std::string_view name) {
  VMM_TRY(check_name(name));
  Fd tap{::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)};
  if (!tap && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
    return fail("open tap {}: this host has no /dev/net/tun; run: sudo modprobe tun", name);
  }
  if (!tap) return fail(errno, "open /dev/net/tun for tap {}", name);

  const bool exists = ::if_nametoindex(std::string{name}.c_str()) != 0;
  // A tap made with `multi_queue` opens only as such, any other only without.
  int error = EINVAL;
  for (const int more : {0, IFF_MULTI_QUEUE}) {
    auto request = request_for(name);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more);
    error = ::ioctl(tap.get(), TUNSETIFF, &request) == 0 ? 0 : errno;
    if (error != EINVAL || !exists) break;
  }
  if (error != 0) return refusal(name, error, exists);

  Fd control{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  Fd links{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)};
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (!control || !links ||
      ::bind(links.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(errno, "watch the link of tap {}", name);
  }
  std::unique_ptr<Tap> backend{
      new Tap{std::string{name}, std::move(tap), std::move(control), std::move(links)}};
  VMM_TRY(backend->configure(!exists));
  return backend;
}

Tap::Tap(std::string name, Fd tap, Fd control, Fd links)
    : name_(std::move(name)), tap_(std::move(tap)), control_(std::move(control)), links_(std::move(links)) {}

Result<void> Tap::configure(bool created) {
  const int header = sizeof(VnetHeader);
  if (::ioctl(tap_.get(), TUNSETVNETHDRSZ, &header) != 0)
    return fail(errno, "set the header size of tap {}", name_);
  // What the host can do is asked by trying; nothing is given before a driver has accepted it.
  if (::ioctl(tap_.get(), TUNSETOFFLOAD, kOffloads) == 0) offloads_ = kOffloads;
  set_offloads(0);

  auto request = request_for(name_);
  if (::ioctl(control_.get(), SIOCGIFMTU, &request) == 0) {
    mtu_ = static_cast<uint16_t>(std::clamp(request.ifr_mtu, 68, 65535));
  }
  request = request_for(name_);
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0)
    return fail(errno, "ask for the state of tap {}", name_);
  if ((request.ifr_flags & IFF_UP) == 0) {
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    if (::ioctl(control_.get(), SIOCSIFFLAGS, &request) != 0) {
      log(LogLevel::warning, "tap {0}: is down, the guest has no link; run: sudo ip link set {0} up", name_);
    }
  }
  if (created) log(LogLevel::info, "tap {}: made for this run", name_);
  was_up_ = link_up();
  return {};
}

void Tap::set_offloads(uint32_t accepted) {
  if (::ioctl(tap_.get(), TUNSETOFFLOAD, accepted & offloads_) != 0) {
    log(LogLevel::warning, "tap {}: the host refuses offloads {:#x}", name_, accepted & offloads_);
  }
}

int Tap::send(std::span<const iovec> frame) {
  return ::writev(tap_.get(), frame.data(), static_cast<int>(frame.size())) < 0 ? -errno : 0;
}

int Tap::receive(std::span<const iovec> into) {
  const auto count = ::readv(tap_.get(), into.data(), static_cast<int>(into.size()));
  return count < 0 ? -errno : static_cast<int>(count);
}

Result<void> Tap::start(EventLoop& loop, std::function<void()> readable) {
  loop_ = &loop;
  readable_ = std::move(readable);
  failed_ = false;
  was_up_ = link_up();
  links_watch_ = loop.watch(links_.get(), EPOLLIN, [this](uint32_t) { handle_links(); });
  watch_frames();
  return {};
}

void Tap::stop() {
  frames_watch_.reset();
  links_watch_.reset();
  wanted_ = false;
  loop_ = nullptr;
}

void Tap::want_receive(bool wanted) {
  wanted_ = wanted;
  watch_frames();
}

void Tap::watch_frames() {
  const bool watch = loop_ != nullptr && wanted_ && !failed_;
  if (!watch) {
    frames_watch_.reset();
  } else if (!frames_watch_) {
    frames_watch_ = loop_->watch(tap_.get(), EPOLLIN, [this](uint32_t events) { handle_readable(events); });
  }
}

void Tap::handle_readable(uint32_t events) {
  if ((events & static_cast<uint32_t>(EPOLLERR | EPOLLHUP)) != 0) {
    // The interface was deleted under us: always "ready", never anything to read.
    failed_ = true;
    watch_frames();
    log(LogLevel::warning, "tap {}: has gone, the guest has no network until it is started again", name_);
    return handle_links();
  }
  readable_();
}

void Tap::handle_links() {
  // The messages are only a reason to look: their number is bounded by nothing and some may be lost.
  std::array<std::byte, 8192> messages;
  while (true) {
    const auto count = ::recv(links_.get(), messages.data(), messages.size(), 0);
    if (count == 0 || (count < 0 && errno != ENOBUFS)) break;
  }
  const bool up = link_up();
  if (up == std::exchange(was_up_, up)) return;
  if (link_changed_) link_changed_(up);
}

bool Tap::link_up() const {
  if (failed_) return false;
  // TUNGETIFF speaks of the interface that is ours, even if it was renamed or another has its name now.
  ifreq request{};
  if (::ioctl(tap_.get(), TUNGETIFF, &request) != 0) return false;
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0) return false;
  constexpr int kWorking = IFF_UP | IFF_RUNNING;
  return (request.ifr_flags & kWorking) == kWorking;
}

}  // namespace vmm::backend
