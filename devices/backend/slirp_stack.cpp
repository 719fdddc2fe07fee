// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/slirp_stack.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <arpa/inet.h>

#include "devices/backend/stream_fd.h"

namespace vmm::backend {
namespace {

in_addr address(uint32_t host_order) {
  return {.s_addr = htonl(host_order)};
}

// The addresses that QEMU gives its guests, so that what is written for it works here.
constexpr uint32_t kNetwork = 0x0a000200;  // 10.0.2.0/24
constexpr uint32_t kMask = 0xffffff00;
constexpr uint32_t kHost = kNetwork + 2;  // the gateway; also the host's own loopback
constexpr uint32_t kNameserver = kNetwork + 3;
constexpr uint32_t kFirstGuest = kNetwork + 15;

// libslirp's names for what poll(2) and epoll(7) call alike.
constexpr std::pair<int, int> kEvents[] = {
    {SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
    {SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI && EPOLLERR == POLLERR &&
              EPOLLHUP == POLLHUP);

short to_poll(int slirp) {
  int events = 0;
  for (const auto& [theirs, ours] : kEvents) events |= (slirp & theirs) != 0 ? ours : 0;
  return static_cast<short>(events);
}

int to_slirp(short poll) {
  int events = 0;
  for (const auto& [theirs, ours] : kEvents) events |= (poll & ours) != 0 ? theirs : 0;
  return events;
}

}  // namespace

struct SlirpStack::Callbacks {
  static SlirpStack& self(void* opaque) { return *static_cast<SlirpStack*>(opaque); }

  static ssize_t send_packet(const void* frame, size_t length, void* opaque) {
    self(opaque).to_guest_({static_cast<const std::byte*>(frame), length});
    return static_cast<ssize_t>(length);
  }
  static void guest_error(const char* message, void* opaque) {
    if (self(opaque).complaints_.pass()) log(LogLevel::warning, "user network: {}", message);
  }
  static int64_t clock_get_ns(void*) { return std::chrono::nanoseconds{now()}.count(); }
  static void* timer_new(SlirpTimerCb call, void* argument, void* opaque) {
    return &self(opaque).alarms_.emplace_back(Alarm{call, argument, std::nullopt});
  }
  static void timer_free(void* timer, void* opaque) {
    self(opaque).alarms_.remove_if([=](const Alarm& alarm) { return &alarm == timer; });
  }
  static void timer_mod(void* timer, int64_t milliseconds, void* opaque) {
    static_cast<Alarm*>(timer)->due = Milliseconds{milliseconds};
    self(opaque).post_poll();
  }
  // A descriptor is about to be closed, or its number is in use again: a watch of the old file would be deaf.
  static void forget(int fd, void* opaque) { self(opaque).watched_.erase(fd); }
  static void notify(void* opaque) { self(opaque).post_poll(); }

  static int want(int fd, int events, void* opaque) { return self(opaque).want(fd, events); }
  static int ready(int index, void* opaque) { return self(opaque).ready(index); }

  static const SlirpCb kTable;
};

const SlirpCb SlirpStack::Callbacks::kTable = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = forget,
    .unregister_poll_fd = forget,
    .notify = notify,
    .init_completed = nullptr,
    .timer_new_opaque = nullptr,
};

Result<std::unique_ptr<SlirpStack>> SlirpStack::create(const Config& config, FrameSink to_guest) {
  ignore_broken_pipes();  // libslirp writes to sockets whose peers may have gone
  VMM_TRY_ASSIGN(const auto library, SlirpLibrary::load());
  std::unique_ptr<SlirpStack> stack{new SlirpStack{library, std::move(to_guest)}};
  SlirpConfig slirp{};
  slirp.version = 1;
  slirp.restricted = config.restricted ? 1 : 0;
  slirp.in_enabled = true;
  slirp.vnetwork = address(kNetwork);
  slirp.vnetmask = address(kMask);
  slirp.vhost = address(kHost);
  slirp.vnameserver = address(kNameserver);
  slirp.vdhcp_start = address(kFirstGuest);
  slirp.if_mtu = config.mtu;
  slirp.if_mru = config.mtu;
  stack->slirp_ = library.create(&slirp, &Callbacks::kTable, stack.get());
  if (stack->slirp_ == nullptr) return fail("start the user network: libslirp refuses MTU {}", config.mtu);
  return stack;
}

SlirpStack::~SlirpStack() {
  stop();
  if (slirp_ != nullptr) library_.cleanup(slirp_);
}

Result<void> SlirpStack::forward(const HostForward& forward) {
  const int udp = forward.protocol == HostForward::Protocol::udp ? 1 : 0;
  if (library_.add_hostfwd(slirp_, udp, forward.host_address, forward.host_port, forward.guest_address,
                           forward.guest_port) == 0) {
    post_poll();
    return {};
  }
  const int error = errno;
  if (error == EADDRINUSE) {
    return fail("forward {}: port {} of the host is in use; choose another", forward.to_string(),
                forward.host_port);
  }
  if (error == EACCES) {
    return fail("forward {}: port {} of the host is for privileged programs; choose one from 1024 up",
                forward.to_string(), forward.host_port);
  }
  return fail(error, "forward {}: listen on port {} of the host", forward.to_string(), forward.host_port);
}

Result<void> SlirpStack::start(EventLoop& loop) {
  VMM_TRY_ASSIGN(timer_, Timer::create(loop, [this] { poll(); }));
  loop_ = &loop;
  post_poll();
  return {};
}

void SlirpStack::stop() {
  watched_.clear();
  polled_.clear();
  timer_.reset();
  loop_ = nullptr;
}

void SlirpStack::input(std::span<const std::byte> frame) {
  library_.input(slirp_, reinterpret_cast<const uint8_t*>(frame.data()), static_cast<int>(frame.size()));
  post_poll();
}

SlirpStack::Milliseconds SlirpStack::now() {
  return std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

// Once a turn of the loop however much there was to do: libslirp walks all its sockets each time.
void SlirpStack::post_poll() {
  if (loop_ == nullptr || std::exchange(poll_posted_, true)) return;
  loop_->post([weak = std::weak_ptr{self_}] {
    if (const auto self = weak.lock()) (*self)->poll();
  });
}

void SlirpStack::poll() {
  poll_posted_ = false;
  if (loop_ == nullptr) return;
  // Asked again, now: what a watch saw may have been dealt with since, and libslirp's listening sockets block
  // in accept(2) when nobody is there.
  ::poll(polled_.data(), polled_.size(), 0);
  library_.pollfds_poll(slirp_, 0, Callbacks::ready, this);
  ring_alarms();
  refresh();
}

void SlirpStack::ring_alarms() {
  for (auto next = alarms_.begin(); next != alarms_.end();) {
    const auto alarm = next++;  // it may free itself
    if (!alarm->due || *alarm->due > now()) continue;
    alarm->due.reset();
    alarm->call(alarm->argument);
  }
}

// Makes the watches what libslirp waits for now.
void SlirpStack::refresh() {
  polled_.clear();
  for (auto& [fd, watched] : watched_) watched.wanted = false;
  uint32_t timeout = UINT32_MAX;
  library_.pollfds_fill(slirp_, &timeout, Callbacks::want, this);
  std::erase_if(watched_, [](const auto& entry) { return !entry.second.wanted; });

  auto wait = timeout == UINT32_MAX ? Milliseconds::max() : Milliseconds{timeout};
  for (const auto& alarm : alarms_) {
    if (alarm.due) wait = std::clamp(*alarm.due - now(), Milliseconds{0}, wait);
  }
  if (wait == Milliseconds::max()) {
    timer_->disarm();
  } else {
    timer_->arm(wait);
  }
}

int SlirpStack::want(int fd, int slirp_events) {
  const auto events = to_poll(slirp_events);
  const auto waited = static_cast<uint32_t>(events);
  auto& watched = watched_[fd];
  watched.wanted = true;
  if (!watched.watch || watched.events != waited) {
    watched.watch.reset();
    watched.events = waited;
    watched.watch = loop_->watch(fd, waited, [this](uint32_t) { post_poll(); });
  }
  polled_.push_back({.fd = fd, .events = events, .revents = 0});
  return static_cast<int>(polled_.size()) - 1;
}

int SlirpStack::ready(int index) const {
  if (index < 0 || static_cast<size_t>(index) >= polled_.size()) return 0;
  return to_slirp(polled_[static_cast<size_t>(index)].revents);
}

}  // namespace vmm::backend
