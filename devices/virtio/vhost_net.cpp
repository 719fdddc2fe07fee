// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vhost_net.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "devices/virtio/queue.h"
#include "devices/virtio/ring_layout.h"

namespace vmm::virtio {
namespace {

// What the kernel must know of; offloads are between the driver and the tap.
constexpr uint64_t kRingFeatures = kFeatureVersion1 | kFeatureIndirect | kFeatureEventIndex;
constexpr uint64_t kKernelFeatures = kRingFeatures | net_feature::kMergeable;

uint64_t features_of(const backend::Net& tap, const backend::Vhost& vhost) {
  return net_features(tap.send_offloads(), tap.receive_offloads()) |
         (vhost.features() & net_feature::kMergeable);
}

}  // namespace

Result<std::unique_ptr<VhostNet>> VhostNet::create(EventLoop& loop, backend::Net& tap, backend::Vhost& vhost,
                                                   const GuestMemory& memory, const backend::MacAddress& mac,
                                                   std::string name) {
  if (const uint64_t missing = kRingFeatures & ~vhost.features(); missing != 0) {
    return fail(
        "{}: this host's vhost-net lacks virtio features {:#x}; leave out vhost, or use Linux 4.0 or later",
        name, missing);
  }
  VMM_TRY_ASSIGN(auto received, EventFd::create());
  VMM_TRY_ASSIGN(auto sent, EventFd::create());
  VMM_TRY_ASSIGN(auto broken, EventFd::create());
  Events events{.used = {std::move(received), std::move(sent)}, .broken = std::move(broken)};
  return std::unique_ptr<VhostNet>{
      new VhostNet{loop, tap, vhost, memory, mac, std::move(name), std::move(events)}};
}

VhostNet::VhostNet(EventLoop& loop, backend::Net& tap, backend::Vhost& vhost, const GuestMemory& memory,
                   const backend::MacAddress& mac, std::string name, Events events)
    : loop_(loop),
      tap_(tap),
      vhost_(vhost),
      memory_(memory),
      mac_(mac),
      name_(std::move(name)),
      offered_(features_of(tap, vhost)),
      events_(std::move(events)),
      link_up_(tap.link_up()) {
  tap_.set_link_changed([this](bool up) { handle_link(up); });
}

VhostNet::~VhostNet() {
  tap_.set_link_changed({});
}

void VhostNet::read_config(size_t offset, std::span<std::byte> out) {
  NetConfig config;
  std::copy(mac_.bytes.begin(), mac_.bytes.end(), config.mac);
  config.status = link_up_.load() ? NetConfig::kLinkUp : uint16_t{0};
  config.mtu = tap_.mtu();
  std::memcpy(out.data(), std::as_bytes(std::span{&config, 1}).subspan(offset).data(), out.size());
}

void VhostNet::start(uint64_t features, std::span<Queue> queues, Driver& driver) {
  running_ = true;
  features_ = features;
  driver_ = &driver;
  if (const auto begun = begin(queues); !begun) return fail_driver(begun.error().message);
  handle_link(tap_.link_up());
}

Result<void> VhostNet::begin(std::span<Queue> queues) {
  [[maybe_unused]] const bool old_news = events_.broken.drain();  // of a driver before
  broken_watch_ =
      loop_.watch_bell(events_.broken, [this] { fail_driver("the kernel found a broken ring or buffer"); });
  tap_.set_offloads(accepted_offloads(features_));
  VMM_TRY(tap_.start(loop_, [] {}));  // for its link: what is to be received is never asked

  std::vector<backend::Vhost::Ring> rings;
  for (uint16_t index = 0; index < kQueues; ++index) {
    const auto& queue = queues[index];
    if (!queue.ready()) continue;
    [[maybe_unused]] const bool old_use = events_.used[index].drain();
    rings.push_back({.index = index,
                     .size = queue.size(),
                     .descriptors = queue.descriptors(),
                     .available = queue.available(),
                     .used = queue.used(),
                     .kick = driver_->hand_over(index, events_.used[index]).get(),
                     .call = events_.used[index].get(),
                     .error = events_.broken.get()});
  }
  return vhost_.start(memory_, features_ & kKernelFeatures, rings);
}

void VhostNet::stop(std::function<void()> done) {
  halt();
  done();
}

void VhostNet::halt() {
  if (!std::exchange(running_, false)) return;
  vhost_.stop();
  tap_.stop();
  broken_watch_.reset();
}

void VhostNet::fail_driver(std::string_view why) {
  halt();
  driver_->needs_reset(why);
}

void VhostNet::handle_link(bool up) {
  const bool changed = link_up_.exchange(up) != up;
  if (running_ && changed && (features_ & net_feature::kStatus) != 0) driver_->notify_config();
}

}  // namespace vmm::virtio
