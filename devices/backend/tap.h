// SPDX-License-Identifier: Apache-2.0
//
// A tap interface of the host (<linux/if_tun.h>): frames go to and come from the kernel directly, with
// checksums and segmentation left to whoever does them best.
//
// Missing: multicast filters.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "devices/backend/net.h"
#include "devices/backend/tap_queue.h"

namespace vmm::backend {

class Tap final : public Net {
 public:
  // Opens the tap `name`, or makes one that lasts as long as this where the user may (CAP_NET_ADMIN). Brings
  // it up if that is allowed too, else only warns: it can be brought up later. Several queues need a tap that
  // was made for them (`multi_queue`).
  static Result<std::unique_ptr<Tap>> create(std::string_view name, size_t queues = 1);

  [[nodiscard]] std::span<const std::unique_ptr<NetQueue>> further_queues() const override {
    return further_;
  }
  // For vhost: the first queue's. Until receive is wanted nobody here reads from it.
  [[nodiscard]] int fd() const { return first_->fd(); }

  [[nodiscard]] uint16_t mtu() const override { return mtu_; }
  [[nodiscard]] uint32_t send_offloads() const override { return offloads_; }
  [[nodiscard]] uint32_t receive_offloads() const override { return offloads_; }
  void set_offloads(uint32_t accepted) override;
  int send(std::span<const iovec> frame) override { return first_->send(frame); }
  int receive(std::span<const iovec> into) override { return first_->receive(into); }
  Result<void> start(EventLoop& loop, std::function<void()> readable) override;
  void want_receive(bool wanted) override { first_->want_receive(wanted); }
  void stop() override;
  [[nodiscard]] bool link_up() const override;
  void set_link_changed(std::function<void(bool up)> changed) override { link_changed_ = std::move(changed); }

 private:
  using Queues = std::vector<std::unique_ptr<TapQueue>>;
  Tap(std::string name, Queues queues, Fd control, Fd links);
  Result<void> configure(bool created);
  void handle_links();

  const std::string name_;
  std::unique_ptr<TapQueue> first_;
  std::vector<std::unique_ptr<NetQueue>> further_;
  Fd control_;  // a socket to ask about interfaces
  Fd links_;    // tells of changes of interfaces (rtnetlink(7))
  uint16_t mtu_ = 1500;
  uint32_t offloads_ = 0;

  std::function<void(bool)> link_changed_;
  bool was_up_ = false;
  EventLoop::Watch links_watch_;
};

}  // namespace vmm::backend
