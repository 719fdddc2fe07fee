// SPDX-License-Identifier: Apache-2.0
//
// A tap interface of the host (<linux/if_tun.h>): frames go to and come from the kernel directly, with
// checksums and segmentation left to whoever does them best.
//
// Missing: several queues, multicast filters.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "devices/backend/net.h"

namespace vmm::backend {

class Tap final : public Net {
 public:
  // Opens the tap `name`, or makes one that lasts as long as this where the user may (CAP_NET_ADMIN). Brings
  // it up if that is allowed too, else only warns: it can be brought up later.
  static Result<std::unique_ptr<Tap>> create(std::string_view name);

  // For vhost. Until receive is wanted nobody here reads from it.
  [[nodiscard]] int fd() const { return tap_.get(); }

  [[nodiscard]] uint16_t mtu() const override { return mtu_; }
  [[nodiscard]] uint32_t send_offloads() const override { return offloads_; }
  [[nodiscard]] uint32_t receive_offloads() const override { return offloads_; }
  void set_offloads(uint32_t accepted) override;
  int send(std::span<const iovec> frame) override;
  int receive(std::span<const iovec> into) override;
  Result<void> start(EventLoop& loop, std::function<void()> readable) override;
  void want_receive(bool wanted) override;
  void stop() override;
  [[nodiscard]] bool link_up() const override;
  void set_link_changed(std::function<void(bool up)> changed) override { link_changed_ = std::move(changed); }

 private:
  Tap(std::string name, Fd tap, Fd control, Fd links);
  Result<void> configure(bool created);
  void handle_readable(uint32_t events);
  void handle_links();
  void watch_frames();

  const std::string name_;
  Fd tap_;
  Fd control_;  // a socket to ask about interfaces
  Fd links_;    // tells of changes of interfaces (rtnetlink(7))
  uint16_t mtu_ = 1500;
  uint32_t offloads_ = 0;

  EventLoop* loop_ = nullptr;  // while started
  std::function<void()> readable_;
  std::function<void(bool)> link_changed_;
  bool wanted_ = false;
  bool failed_ = false;  // polls as an error: not watched until its link changes
  bool was_up_ = false;
  EventLoop::Watch frames_watch_;
  EventLoop::Watch links_watch_;
};

}  // namespace vmm::backend
