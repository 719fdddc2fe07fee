// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/tap.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
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

bool is_tap(std::string_view name) {
  const Fd control{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  auto request = request_for(name);
  request.ifr_data = reinterpret_cast<char*>(&info);
  return ::ioctl(control.get(), SIOCETHTOOL, &request) == 0 && std::string_view{info.driver} == "tun";
}

tl::unexpected<Error> refusal(std::string_view name, size_t queues, int error, bool exists) {
  const auto make =
      fmt::format("sudo ip tuntap add dev {0} mode tap{1} user $(id -un) && sudo ip link set {0} up", name,
                  queues > 1 ? " multi_queue" : "");
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
  if (error == EINVAL && queues > 1 && is_tap(name)) {
    return fail(
        "open tap {0} with {1} queues: it was made for one; delete it (sudo ip link del {0}) and run: {2}",
        name, queues, make);
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

// A descriptor that is attached to the tap.
Result<Fd> open_queue(std::string_view name, size_t queues) {
  Fd tap{::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)};
  if (!tap && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
    return fail("open tap {}: this host has no /dev/net/tun; run: sudo modprobe tun", name);
  }
  if (!tap) return fail(errno, "open /dev/net/tun for tap {}", name);

  const bool exists = ::if_nametoindex(std::string{name}.c_str()) != 0;
  // A tap made with `multi_queue` opens only as such, any other only without.
  int error = EINVAL;
  for (const int more : {0, IFF_MULTI_QUEUE}) {
    if (more == 0 && queues > 1) continue;
    auto request = request_for(name);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more);
    error = ::ioctl(tap.get(), TUNSETIFF, &request) == 0 ? 0 : errno;
    if (error != EINVAL || !exists) break;
  }
  if (error != 0) return refusal(name, queues, error, exists);
  return tap;
}

}  // namespace

Result<std::unique_ptr<Tap>> Tap::create(std::string_view name, size_t queues) {
  VMM_TRY(check_name(name));
  const bool exists = ::if_nametoindex(std::string{name}.c_str()) != 0;
  Queues opened;
  for (size_t i = 0; i < queues; ++i) {
    VMM_TRY_ASSIGN(auto tap, open_queue(name, queues));
    const auto kind = i == 0 ? TapQueue::Kind::first : TapQueue::Kind::further;
    VMM_TRY_ASSIGN(auto queue, TapQueue::create(std::string{name}, std::move(tap), kind));
    opened.push_back(std::move(queue));
  }

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
      new Tap{std::string{name}, std::move(opened), std::move(control), std::move(links)}};
  VMM_TRY(backend->configure(!exists));
  return backend;
}

Tap::Tap(std::string name, Queues queues, Fd control, Fd links)
    : name_(std::move(name)),
      first_(std::move(queues.front())),
      further_(std::make_move_iterator(std::next(queues.begin())), std::make_move_iterator(queues.end())),
      control_(std::move(control)),
      links_(std::move(links)) {}

Result<void> Tap::configure(bool created) {
  const int header = sizeof(VnetHeader);
  if (::ioctl(first_->fd(), TUNSETVNETHDRSZ, &header) != 0)
    return fail(errno, "set the header size of tap {}", name_);
  // What the host can do is asked by trying; nothing is given before a driver has accepted it.
  if (::ioctl(first_->fd(), TUNSETOFFLOAD, kOffloads) == 0) offloads_ = kOffloads;
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
  if (::ioctl(first_->fd(), TUNSETOFFLOAD, accepted & offloads_) != 0) {
    log(LogLevel::warning, "tap {}: the host refuses offloads {:#x}", name_, accepted & offloads_);
  }
}

Result<void> Tap::start(EventLoop& loop, std::function<void()> readable) {
  VMM_TRY(first_->start(loop, std::move(readable)));
  was_up_ = link_up();
  links_watch_ = loop.watch(links_.get(), EPOLLIN, [this](uint32_t) { handle_links(); });
  return {};
}

void Tap::stop() {
  first_->stop();
  links_watch_.reset();
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
  // TUNGETIFF speaks of the interface that is ours, even if it was renamed or another has its name now.
  ifreq request{};
  if (::ioctl(first_->fd(), TUNGETIFF, &request) != 0) return false;
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0) return false;
  constexpr int kWorking = IFF_UP | IFF_RUNNING;
  return (request.ifr_flags & kWorking) == kWorking;
}

}  // namespace vmm::backend
