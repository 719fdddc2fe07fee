// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/user_net.h"

#include <linux/if_tun.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/backend/checksum.h"
#include "devices/backend/vnet_header.h"

namespace vmm::backend {
namespace {

constexpr size_t kHeader = sizeof(VnetHeader);
constexpr size_t kLongestFrame = 65535 + 14 + 4;  // payload, Ethernet header, VLAN tag

// Copies as much as fits, and says how much that was.
size_t scatter(std::span<const std::byte> bytes, std::span<const iovec> into, size_t skip) {
  size_t done = 0;
  for (const auto& part : into) {
    const size_t skipped = std::min(skip, part.iov_len);
    skip -= skipped;
    const size_t count = std::min(part.iov_len - skipped, bytes.size() - done);
    if (count == 0) continue;
    std::memcpy(static_cast<std::byte*>(part.iov_base) + skipped, bytes.data() + done, count);
    done += count;
  }
  return done;
}

}  // namespace

Result<std::unique_ptr<UserNet>> UserNet::create(const Config& config) {
  if (config.mtu < 576 || config.mtu > 65520) {
    return fail("MTU {} of the user network is out of range; use 576 to 65520", config.mtu);
  }
  std::unique_ptr<UserNet> net{new UserNet{config.mtu}};
  VMM_TRY_ASSIGN(net->stack_, SlirpStack::create({.mtu = config.mtu, .restricted = config.restricted},
                                                 [self = net.get()](auto frame) { self->enqueue(frame); }));
  for (const auto& forward : config.forwards) VMM_TRY(net->stack_->forward(forward));
  return net;
}

uint32_t UserNet::send_offloads() const {
  return TUN_F_CSUM | TUN_F_TSO4;
}

// What comes from here crossed no wire: the driver need not check it again.
uint32_t UserNet::receive_offloads() const {
  return TUN_F_CSUM;
}

int UserNet::send(std::span<const iovec> frame) {
  size_t length = 0;
  for (const auto& part : frame) length += part.iov_len;
  if (length <= kHeader || length > kHeader + kLongestFrame) return -EMSGSIZE;
  outgoing_.resize(length);
  size_t at = 0;
  for (const auto& part : frame) {
    if (part.iov_len != 0) std::memcpy(outgoing_.data() + at, part.iov_base, part.iov_len);
    at += part.iov_len;
  }
  VnetHeader header;
  std::memcpy(&header, outgoing_.data(), kHeader);
  const auto bytes = std::span{outgoing_}.subspan(kHeader);
  if ((header.flags & VnetHeader::kNeedsChecksum) != 0 &&
      !complete_checksum(bytes, header.checksum_start, header.checksum_offset)) {
    return -EINVAL;
  }
  stack_->input(bytes);
  return 0;
}

int UserNet::receive(std::span<const iovec> into) {
  if (queue_.empty()) return -EAGAIN;
  const auto frame = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= frame.size();
  const VnetHeader header{.flags = VnetHeader::kDataValid};
  const auto done = scatter(std::as_bytes(std::span{&header, 1}), into, 0) + scatter(frame, into, kHeader);
  return static_cast<int>(done);
}

void UserNet::enqueue(std::span<const std::byte> frame) {
  // Also while no driver runs: nobody is there to take it.
  if (loop_ == nullptr || queued_bytes_ + frame.size() > kQueueBytes) {
    ++dropped_;
    return;
  }
  queue_.emplace_back(frame.begin(), frame.end());
  queued_bytes_ += frame.size();
  post_readable();
}

Result<void> UserNet::start(EventLoop& loop, std::function<void()> readable) {
  VMM_TRY(stack_->start(loop));
  loop_ = &loop;
  readable_ = std::move(readable);
  return {};
}

void UserNet::stop() {
  stack_->stop();
  loop_ = nullptr;
  wanted_ = false;
  queue_.clear();
  queued_bytes_ = 0;
}

void UserNet::want_receive(bool wanted) {
  wanted_ = wanted;
  post_readable();
}

// As a readable descriptor would, calls until the queue is empty or nobody wants it.
void UserNet::post_readable() {
  if (loop_ == nullptr || !wanted_ || queue_.empty() || std::exchange(readable_posted_, true)) return;
  loop_->post([weak = std::weak_ptr{self_}] {
    const auto self = weak.lock();
    if (!self) return;
    auto& net = **self;
    net.readable_posted_ = false;
    if (net.loop_ == nullptr || !net.wanted_ || net.queue_.empty()) return;
    net.readable_();
    net.post_readable();
  });
}

}  // namespace vmm::backend
