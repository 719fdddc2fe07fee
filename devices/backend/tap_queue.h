// SPDX-License-Identifier: Apache-2.0
//
// One queue of a tap: one of the descriptors that its interface has (Documentation/networking/tuntap.rst,
// "Multiqueue tuntap interface").
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "devices/backend/net.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class TapQueue final : public NetQueue {
 public:
  // The first queue of a tap is always attached to it, for that is what the interface lives by; the others
  // are while they are started.
  enum class Kind : uint8_t { first, further };
  // `tap` has just been opened, which attaches it.
  static Result<std::unique_ptr<TapQueue>> create(std::string name, Fd tap, Kind kind);

  [[nodiscard]] int fd() const { return tap_.get(); }

  int send(std::span<const iovec> frame) override;
  int receive(std::span<const iovec> into) override;
  Result<void> start(EventLoop& loop, std::function<void()> readable) override;
  void want_receive(bool wanted) override;
  void stop() override;

 private:
  TapQueue(std::string name, Fd tap, Kind kind) : name_(std::move(name)), tap_(std::move(tap)), kind_(kind) {}
  Result<void> attach(bool attached);
  void watch_frames();
  void handle_readable(uint32_t events);

  const std::string name_;
  const Fd tap_;
  const Kind kind_;

  EventLoop* loop_ = nullptr;  // while started
  std::function<void()> readable_;
  bool wanted_ = false;
  bool failed_ = false;  // polls as an error: not watched until it is started again
  EventLoop::Watch watch_;
};

}  // namespace vmm::backend
