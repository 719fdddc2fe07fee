// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net.h"

#include <linux/if_tun.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace vmm::virtio {

Net::Net(EventLoop& loop, backend::Net& backend, const backend::MacAddress& mac, std::string name,
         const backend::RateLimit::Rates& rates)
    : loop_(loop),
      backend_(backend),
      mac_(mac),
      name_(std::move(name)),
      offered_(net_features(backend.send_offloads(), backend.receive_offloads()) | net_feature::kMergeable),
      link_up_(backend.link_up()),
      receive_limit_(rates),
      transmit_limit_(rates),
      pair_(loop, backend, session_, kReceive,
            rates.any() ? NetPair::Limits{} : NetPair::Limits{&receive_limit_, &transmit_limit_}) {
  backend_.set_link_changed([this](bool up) { handle_link(up); });
}

Net::~Net() {
  backend_.set_link_changed({});
}

void Net::read_config(size_t offset, std::span<std::byte> out) {
  NetConfig config;
  std::copy(mac_.bytes.begin(), mac_.bytes.end(), config.mac);
  config.status = link_up_.load() ? NetConfig::kLinkUp : uint16_t{0};
  config.mtu = backend_.mtu();
  std::memcpy(out.data(), std::as_bytes(std::span{&config, 1}).subspan(offset).data(), out.size());
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
  pair_.start(queues[kReceive], queues[kTransmit]);
  handle_link(backend_.link_up());
}

void Net::stop(std::function<void()> done) {
  running_ = false;
  pair_.stop();
  done();
}

void Net::handle_queue(uint16_t index) {
  if (index == kReceive) return pair_.handle_receive();
  pair_.handle_transmit();
}

void Net::handle_link(bool up) {
  const bool changed = link_up_.exchange(up) != up;
  if (!running_ || session_.broken) return;
  if (changed && session_.negotiated(net_feature::kStatus)) session_.driver->notify_config();
  if (up) pair_.handle_link_up();
}

}  // namespace vmm::virtio
