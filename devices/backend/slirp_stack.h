// SPDX-License-Identifier: Apache-2.0
//
// libslirp on an event loop: a TCP/IP stack in this process, which turns the guest's connections into
// ordinary sockets of the user. libslirp wants to be asked before and after each poll(2) which descriptors it
// waits for; here its answer is kept as watches of the loop, and only what changed is changed.
//
// Everything is on the loop's thread, or before it runs.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "devices/backend/host_forward.h"
#include "devices/backend/slirp_library.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/log.h"

namespace vmm::backend {

class SlirpStack {
 public:
  struct Config {
    uint16_t mtu = 1500;
    bool restricted = false;  // the guest reaches nothing but us: no host, no network
  };
  // A frame for the guest, not from within input().
  using FrameSink = std::function<void(std::span<const std::byte> frame)>;

  static Result<std::unique_ptr<SlirpStack>> create(const Config& config, FrameSink to_guest);
  ~SlirpStack();
  SlirpStack(const SlirpStack&) = delete;
  SlirpStack& operator=(const SlirpStack&) = delete;

  // Listens at once; the guest hears of it when it is running.
  Result<void> forward(const HostForward& forward);

  Result<void> start(EventLoop& loop);
  void stop();
  void input(std::span<const std::byte> frame);  // from the guest

 private:
  using Milliseconds = std::chrono::milliseconds;
  // A timer that libslirp asked for: all share one timer of the loop.
  struct Alarm {
    void (*call)(void*);
    void* argument;
    std::optional<Milliseconds> due;  // on the clock of now()
  };
  struct Watched {
    EventLoop::Watch watch;
    uint32_t events = 0;  // EPOLLIN, …: what is watched
    bool wanted = false;
  };
  struct Callbacks;  // the C functions that libslirp calls

  SlirpStack(const SlirpLibrary& library, FrameSink to_guest)
      : library_(library), to_guest_(std::move(to_guest)) {}
  [[nodiscard]] static Milliseconds now();
  int want(int fd, int slirp_events);
  [[nodiscard]] int ready(int index) const;
  void post_poll();
  void poll();
  void ring_alarms();
  void refresh();

  const SlirpLibrary library_;
  FrameSink to_guest_;
  Slirp* slirp_ = nullptr;
  EventLoop* loop_ = nullptr;  // while started
  std::optional<Timer> timer_;
  std::list<Alarm> alarms_;
  std::unordered_map<int, Watched> watched_;  // by descriptor
  std::vector<pollfd> polled_;                // the same, by the index that libslirp was given
  bool poll_posted_ = false;
  LogLimit complaints_{10};
  std::shared_ptr<SlirpStack*> self_ =
      std::make_shared<SlirpStack*>(this);  // outlived by work posted to the loop
};

}  // namespace vmm::backend
