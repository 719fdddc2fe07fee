// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net.h"

#include <linux/if_tun.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace vmm::virtio {

namespace {

constexpr uint16_t kQueueSize = 256;
constexpr uint16_t kControlQueueSize = 64;

uint64_t features_of(const backend::Net& backend) {
  auto features = net_features(backend.send_offloads(), backend.receive_offloads()) | net_feature::kMergeable;
  if (!backend.further_queues().empty()) features |= net_feature::kControlQueue | net_feature::kMultiQueue;
  return features;
}

}  // namespace

Net::Net(std::span<EventLoop* const> loops, backend::Net& backend, const backend::MacAddress& mac,
         std::string name, const backend::RateLimit::Rates& rates)
    : backend_(backend),
      mac_(mac),
      name_(std::move(name)),
      offered_(features_of(backend)),
      queue_sizes_(2 * loops.size(), kQueueSize),
      link_up_(backend.link_up()),
      receive_limit_(rates),
      transmit_limit_(rates) {
  const auto further = backend.further_queues();
  assert(loops.size() == 1 + further.size() && loops.size() <= kMaxPairs);
  const auto limits =
      rates.unlimited() ? NetPair::Limits{} : NetPair::Limits{&receive_limit_, &transmit_limit_};
  for (size_t i = 0; i < loops.size(); ++i) {
    auto& queue = i == 0 ? backend : *further[i - 1];
    pairs_.push_back(
        std::make_unique<NetPair>(*loops[i], queue, session_, static_cast<uint16_t>(2 * i), limits));
  }
  if (loops.size() > 1) queue_sizes_.push_back(kControlQueueSize);
  backend_.set_link_changed([this](bool up) { handle_link(up); });
}

Net::~Net() {
  backend_.set_link_changed({});
}

void Net::read_config(size_t offset, std::span<std::byte> out) {
  NetConfig config;
  std::copy(mac_.bytes.begin(), mac_.bytes.end(), config.mac);
  config.status = link_up_.load() ? NetConfig::kLinkUp : uint16_t{0};
  config.queue_pairs = static_cast<uint16_t>(pairs_.size());
  config.mtu = backend_.mtu();
  std::memcpy(out.data(), std::as_bytes(std::span{&config, 1}).subspan(offset).data(), out.size());
}

EventLoop& Net::queue_loop(uint16_t queue) {
  const size_t pair = queue / 2;
  return pair < pairs_.size() ? pairs_[pair]->loop() : loop();
}

void Net::start(uint64_t features, std::span<Queue> queues, Driver& driver) {
  running_ = true;
  const uint32_t offloads = accepted_offloads(features);
  const bool segments = (offloads & (TUN_F_TSO4 | TUN_F_TSO6)) != 0;
  constexpr size_t kVlanTag = 4;
  session_.driver = &driver;
  session_.features = features;
  session_.most_bytes =
      sizeof(backend::VnetHeader) + (segments ? kLongestFrame : kShortestFrame + kVlanTag + backend_.mtu());
  session_.broken = false;
  backend_.set_offloads(offloads);
  queues_ = queues;
  // Behind the last pair that the driver knows of (5.1.2).
  control_ = 0;
  if (session_.negotiated(net_feature::kControlQueue)) {
    const bool several = session_.negotiated(net_feature::kMultiQueue);
    control_ = static_cast<uint16_t>(several ? 2 * pairs_.size() : 2);
  }
  on_each_pair([this](size_t i) { pairs_[i]->start(queues_[2 * i], queues_[2 * i + 1]); }, [] {});
  pairs_.front()->enable();
  handle_link(backend_.link_up());
}

void Net::stop(std::function<void()> done) {
  running_ = false;
  command_.reset();
  on_each_pair([this](size_t i) { pairs_[i]->stop(); }, std::move(done));
}

// Calls `act` on the loop of each pair, and after all of them `then` on the device's.
void Net::on_each_pair(std::function<void(size_t)> act, std::function<void()> then) {
  struct Round {
    std::atomic<size_t> left;
    std::function<void(size_t)> act;
    std::function<void()> then;
  };
  const size_t count = pairs_.size();
  const auto round = std::make_shared<Round>(count, std::move(act), std::move(then));
  for (size_t i = 0; i < count; ++i) {  // `then` may end this object: nothing of it is read after the last
    pairs_[i]->loop().run_or_post([round, i, &loop = loop()] {
      round->act(i);
      if (--round->left == 0) loop.run_or_post([round] { round->then(); });
    });
  }
}

void Net::handle_queue(uint16_t index) {
  if (control_ != 0 && index == control_) return handle_control();
  const size_t pair = index / 2;
  if (pair >= pairs_.size()) return;  // behind the last pair, without a control queue there
  if (index % 2 == kReceive) return pairs_[pair]->handle_receive();
  pairs_[pair]->handle_transmit();
}

// One command at a time, in order: while pairs on other loops change, the next one waits. A driver that took
// the control queue without several pairs has it on the loop of another pair, and can say nothing there that
// changes anything.
void Net::handle_control() {
  auto& queue = queues_[control_];
  queue.disable_doorbell();
  for (uint16_t share = queue.size(); share > 0 && !command_ && !session_.broken; --share) {
    auto popped = queue.pop();
    if (!popped) return session_.fail(to_string(popped.error()));
    if (!*popped) {
      if (queue.enable_doorbell()) continue;
      return;
    }
    auto& chain = **popped;
    if (chain.writable_size() == 0) return session_.fail("a control command without room for its answer");
    const auto count = wanted_pairs(chain);
    if (!count) {
      answer(std::move(chain), NetCommand::kError);
      continue;
    }
    command_ = std::move(chain);
    use_pairs(*count);
  }
  if (!command_ && !session_.broken) session_.driver->handle_again(control_);
}

// None if this is another command than the one there is, or one that cannot be followed.
std::optional<size_t> Net::wanted_pairs(const Chain& command) const {
  NetCommand wanted;
  if (!session_.negotiated(net_feature::kMultiQueue) ||
      !command.copy_in(0, std::as_writable_bytes(std::span{&wanted, 1})) ||
      wanted.of_class != NetCommand::kMultiQueue || wanted.command != NetCommand::kSetPairs) {
    return std::nullopt;
  }
  const size_t count = size_t{wanted.pairs[0]} | size_t{wanted.pairs[1]} << 8U;
  if (count < 1 || count > pairs_.size()) return std::nullopt;
  for (size_t queue = 0; queue < 2 * count; ++queue) {
    if (!queues_[queue].ready()) return std::nullopt;
  }
  return count;
}

// The answer says that it is so (5.1.6.5.5): it comes after every pair has changed.
void Net::use_pairs(size_t count) {
  const auto change = [this, count](size_t i) {
    if (i < count) {
      pairs_[i]->enable();
    } else {
      pairs_[i]->disable();
    }
  };
  on_each_pair(change, [this] {
    if (!command_) return;  // it was stopped meanwhile
    auto command = std::move(*std::exchange(command_, std::nullopt));
    if (session_.broken) return;
    answer(std::move(command), NetCommand::kOk);
    session_.driver->handle_again(control_);
  });
}

void Net::answer(Chain command, uint8_t status) {
  [[maybe_unused]] const bool wrote = command.copy_out(0, std::as_bytes(std::span{&status, 1}));
  assert(wrote);
  queues_[control_].complete(std::move(command), 1);
  session_.driver->notify_used(control_);
}

void Net::handle_link(bool up) {
  const bool changed = link_up_.exchange(up) != up;
  if (!running_ || session_.broken) return;
  if (changed && session_.negotiated(net_feature::kStatus)) session_.driver->notify_config();
  if (up) on_each_pair([this](size_t i) { pairs_[i]->handle_link_up(); }, [] {});
}

Net::Counts Net::received() const {
  Counts counts;
  for (const auto& pair : pairs_) counts += pair->received();
  return counts;
}

Net::Counts Net::sent() const {
  Counts counts;
  for (const auto& pair : pairs_) counts += pair->sent();
  return counts;
}

}  // namespace vmm::virtio
