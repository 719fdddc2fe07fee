// SPDX-License-Identifier: Apache-2.0
//
// A network that needs no privilege: the guest is 10.0.2.15 behind a gateway 10.0.2.2 and a
// nameserver 10.0.2.3, gets its address by DHCP, and reaches what the user's own programs reach; 10.0.2.2 is
// the host itself. The host reaches the guest through forwarded ports.
//
// Segments longer than the MTU are taken as they are, since the stack behind this ends every connection;
// their checksums are completed here, because that stack checks them.
//
// Missing: IPv6; ICMP other than echo.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "devices/backend/net.h"
#include "devices/backend/slirp_stack.h"

namespace vmm::backend {

class UserNet final : public Net {
 public:
  struct Config {
    std::vector<HostForward> forwards = {};
    uint16_t mtu = 1500;      // 576..65520
    bool restricted = false;  // forwarded ports only
  };
  static constexpr size_t kQueueBytes = size_t{4}
                                        << 20;  // kept for a guest that does not take them; then dropped

  static Result<std::unique_ptr<UserNet>> create(const Config& config);

  [[nodiscard]] uint16_t mtu() const override { return mtu_; }
  [[nodiscard]] uint32_t send_offloads() const override;
  [[nodiscard]] uint32_t receive_offloads() const override;
  void set_offloads(uint32_t) override {}
  int send(std::span<const iovec> frame) override;
  int receive(std::span<const iovec> into) override;
  Result<void> start(EventLoop& loop, std::function<void()> readable) override;
  void want_receive(bool wanted) override;
  void stop() override;
  [[nodiscard]] bool link_up() const override { return true; }
  void set_link_changed(std::function<void(bool up)>) override {}

  [[nodiscard]] uint64_t dropped() const { return dropped_; }  // frames for which there was no room

 private:
  explicit UserNet(uint16_t mtu) : mtu_(mtu) {}
  void enqueue(std::span<const std::byte> frame);
  void post_readable();

  const uint16_t mtu_;
  std::unique_ptr<SlirpStack> stack_;
  EventLoop* loop_ = nullptr;  // while started
  std::function<void()> readable_;
  bool wanted_ = false;
  bool readable_posted_ = false;
  std::vector<std::byte> outgoing_;  // a frame of the guest in one piece
  std::deque<std::vector<std::byte>> queue_;
  size_t queued_bytes_ = 0;
  uint64_t dropped_ = 0;
  std::shared_ptr<UserNet*> self_ = std::make_shared<UserNet*>(this);  // outlived by work posted to the loop
};

}  // namespace vmm::backend
