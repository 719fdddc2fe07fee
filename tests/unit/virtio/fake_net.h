// SPDX-License-Identifier: Apache-2.0
//
// A network backend of which a test is the other end.
#pragma once

#include <linux/if_tun.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "devices/backend/net.h"
#include "devices/backend/vnet_header.h"

namespace vmm::virtio {

// All members are the loop's.
class FakeNet final : public backend::Net {
 public:
  struct Frame {
    backend::VnetHeader header;
    std::string bytes;
  };

  [[nodiscard]] std::span<const std::unique_ptr<backend::NetQueue>> further_queues() const override {
    return more;
  }
  [[nodiscard]] uint16_t mtu() const override { return 1500; }
  [[nodiscard]] uint32_t send_offloads() const override { return can; }
  [[nodiscard]] uint32_t receive_offloads() const override { return can & gives; }
  void set_offloads(uint32_t accepted) override { accepts = accepted; }
  int send(std::span<const iovec> frame) override {
    std::string all;
    for (const auto& part : frame) all.append(static_cast<const char*>(part.iov_base), part.iov_len);
    Frame sent_frame;
    std::memcpy(&sent_frame.header, all.data(), sizeof sent_frame.header);
    sent_frame.bytes = all.substr(sizeof sent_frame.header);
    sent.push_back(std::move(sent_frame));
    return refuse ? -EIO : 0;
  }
  int receive(std::span<const iovec> into) override {
    ++receives;
    if (broken) return -EBADFD;
    if (waiting.empty()) return -EAGAIN;
    std::string all(reinterpret_cast<const char*>(&waiting.front().header), sizeof(backend::VnetHeader));
    all += waiting.front().bytes;
    waiting.pop_front();
    size_t done = 0;
    for (const auto& part : into) {
      const auto count = std::min(part.iov_len, all.size() - done);
      std::memcpy(part.iov_base, all.data() + done, count);
      done += count;
    }
    return static_cast<int>(done);
  }
  Result<void> start(EventLoop& loop, std::function<void()> readable) override {
    if (fail_start) return fail("no such network");
    loop_ = &loop;
    readable_ = std::move(readable);
    return {};
  }
  void want_receive(bool wanted) override {
    wants = wanted;
    poke();
  }
  void stop() override {
    loop_ = nullptr;
    wants = false;
  }
  [[nodiscard]] bool link_up() const override { return up; }
  void set_link_changed(std::function<void(bool)> changed) override { link_changed = std::move(changed); }

  // A frame arrives.
  void arrive(std::string bytes, backend::VnetHeader header = {}) {
    waiting.push_back({header, std::move(bytes)});
    poke();
  }
  [[nodiscard]] bool running() const { return loop_ != nullptr; }

  uint32_t can = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  uint32_t gives = ~0U;
  uint32_t accepts = 0;
  bool refuse = false;
  bool broken = false;
  bool fail_start = false;
  bool up = true;
  bool wants = false;
  int receives = 0;
  std::vector<Frame> sent;
  std::deque<Frame> waiting;
  std::function<void(bool)> link_changed;
  std::vector<std::unique_ptr<NetQueue>> more;  // other queues, each a fake like this one

 private:
  void poke() {
    if (loop_ == nullptr || !wants || waiting.empty() || std::exchange(poked_, true)) return;
    loop_->post([this, weak = std::weak_ptr{alive_}] {
      if (weak.expired()) return;
      poked_ = false;
      if (loop_ == nullptr || !wants || waiting.empty()) return;
      readable_();
      poke();
    });
  }
  EventLoop* loop_ = nullptr;
  std::function<void()> readable_;
  bool poked_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace vmm::virtio
