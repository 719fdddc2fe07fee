// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/transport_core.h"

#include <linux/virtio_config.h>
#include <sys/epoll.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <functional>
#include <memory>
#include <utility>

#include "devices/virtio/ring_layout.h"

namespace vmm::virtio {
namespace {

// What a driver may set (2.1). NEEDS_RESET is ours: a driver that writes back what it read neither sets nor
// clears it.
constexpr unsigned kDriverBits = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK |
                                 VIRTIO_CONFIG_S_FAILED;
constexpr unsigned kFound = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

constexpr uint64_t kTransportFeatures = kFeatureVersion1 | kFeatureIndirect | kFeatureEventIndex;

uint32_t window_of(uint64_t bits, uint32_t window) {
  return window < 2 ? static_cast<uint32_t>(bits >> (32 * window)) : 0;
}

void set_half(uint64_t& value, Half half, uint32_t bits) {
  const unsigned shift = half == Half::low ? 0 : 32;
  value = (value & ~(0xFFFF'FFFFULL << shift)) | uint64_t{bits} << shift;
}

}  // namespace

Result<std::unique_ptr<TransportCore>> TransportCore::create(Device& device, const GuestMemory& memory,
                                                             TransportInterrupts& interrupts) {
  std::vector<EventFd> doorbells;
  for ([[maybe_unused]] const uint16_t size : device.queue_sizes()) {
    assert(std::has_single_bit(size));
    VMM_TRY_ASSIGN(auto doorbell, EventFd::create());
    doorbells.push_back(std::move(doorbell));
  }
  return std::unique_ptr<TransportCore>{new TransportCore{device, memory, interrupts, std::move(doorbells)}};
}

TransportCore::TransportCore(Device& device, const GuestMemory& memory, TransportInterrupts& interrupts,
                             std::vector<EventFd> doorbells)
    : device_(device),
      memory_(memory),
      interrupts_(interrupts),
      max_sizes_(device.queue_sizes().begin(), device.queue_sizes().end()),
      offered_(device.features() | kTransportFeatures),
      doorbells_(std::move(doorbells)),
      state_(power_on_state()),
      handed_over_(max_sizes_.size()),
      watches_(max_sizes_.size()) {}

TransportCore::~TransportCore() {
  assert(phase_ == Phase::idle);
}

TransportCore::State TransportCore::power_on_state() const {
  State state;
  for (const uint16_t size : max_sizes_) state.queues.push_back({.size = size});
  return state;
}

uint8_t TransportCore::status() const {
  const std::lock_guard lock{mutex_};
  return state_.status;
}

void TransportCore::set_status(uint8_t value) {
  if (value == 0) return reset();
  std::string_view fault;
  {
    const std::lock_guard lock{mutex_};
    const unsigned before = state_.status & kDriverBits;
    const unsigned wanted = value & kDriverBits;
    if (phase_ == Phase::resetting) return;
    if ((before & ~wanted) != 0) return complain("status write ignored: it takes a bit back");

    unsigned added = wanted & ~before;
    const bool found = (wanted & kFound) == kFound;
    if ((added & VIRTIO_CONFIG_S_FEATURES_OK) != 0 && !(found && features_acceptable())) {
      complain("FEATURES_OK refused: features that were not offered, or no VERSION_1");
      added &= ~unsigned{VIRTIO_CONFIG_S_FEATURES_OK};
    }
    const unsigned ready = (before | added) & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED);
    if ((added & VIRTIO_CONFIG_S_DRIVER_OK) != 0 && ready != VIRTIO_CONFIG_S_FEATURES_OK) {
      complain("DRIVER_OK refused: no FEATURES_OK, or FAILED");
      added &= ~unsigned{VIRTIO_CONFIG_S_DRIVER_OK};
    }

    state_.status = static_cast<uint8_t>(state_.status | added);
    if ((added & VIRTIO_CONFIG_S_DRIVER_OK) != 0) fault = activate();
    if (!fault.empty()) state_.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if ((added & VIRTIO_CONFIG_S_FAILED) != 0 && phase_ == Phase::running) {
      on_each_queue([this](uint16_t queue) { watches_[queue].reset(); }, [] {});
    }
  }
  if (!fault.empty()) {
    complain(fmt::format("{}, device needs reset", fault));
    interrupts_.raise_config();
  }
}

bool TransportCore::features_acceptable() const {
  return (state_.driver_features & ~offered_) == 0 && (state_.driver_features & kFeatureVersion1) != 0;
}

std::string_view TransportCore::activate() {
  std::vector<Queue> queues(state_.queues.size());
  for (size_t i = 0; i < queues.size(); ++i) {
    const auto& from = state_.queues[i];
    if (!from.enabled) continue;
    const auto address = [&](QueuePart part) { return Gpa{from.addresses[static_cast<size_t>(part)]}; };
    const QueueConfig config{.size = from.size,
                             .descriptors = address(QueuePart::descriptors),
                             .available = address(QueuePart::available),
                             .used = address(QueuePart::used)};
    auto queue = Queue::create(memory_, config, state_.driver_features);
    if (!queue) return to_string(queue.error());
    queues[i] = std::move(*queue);
  }
  queues_ = std::move(queues);
  phase_ = Phase::running;
  // Posted under the mutex, so that a reset by another vCPU is posted behind it. Posting waits for nobody.
  device_.loop().post([this, features = state_.driver_features] { start_device(features); });
  return {};
}

void TransportCore::reset() {
  assert(!device_.loop().on_loop_thread());
  std::unique_lock lock{mutex_};
  if (phase_ == Phase::resetting) {  // another vCPU is at it
    quiet_.wait(lock, [this] { return phase_ != Phase::resetting; });
    return;
  }
  if (std::exchange(phase_, Phase::resetting) == Phase::running) {
    device_stopped_ = false;
    device_.loop().post([this] { stop_device(); });
    quiet_.wait(lock, [this] { return device_stopped_; });
  }
  // Not under the mutex: a transport may have a lock of its own. Phase::resetting keeps everybody else out.
  lock.unlock();
  interrupts_.reset();
  lock.lock();
  queues_.clear();
  state_ = power_on_state();
  phase_ = Phase::idle;
  quiet_.notify_all();
}

void TransportCore::on_each_queue(std::function<void(uint16_t)> act, std::function<void()> then) {
  struct Round {
    std::atomic<size_t> left;
    std::function<void(uint16_t)> act;
    std::function<void()> then;
  };
  // Shared by what is posted: the last of the loops to be done ends it.
  const uint16_t count = queue_count();
  const auto round = std::make_shared<Round>(count, std::move(act), std::move(then));
  for (uint16_t i = 0; i < count; ++i) {  // `then` may end this object: nothing of it is read after the last
    device_.queue_loop(i).run_or_post([round, i, &loop = device_.loop()] {
      round->act(i);
      if (--round->left == 0) loop.run_or_post([round] { round->then(); });
    });
  }
}

void TransportCore::start_device(uint64_t features) {
  broken_ = false;
  std::ranges::fill(handed_over_, nullptr);
  device_.start(features, queues_, *this);
  on_each_queue([this](uint16_t queue) { open_doorbell(queue); }, [] {});
}

void TransportCore::open_doorbell(uint16_t queue) {
  if (broken_ || !queues_[queue].ready()) return;
  auto& loop = device_.queue_loop(queue);
  if (const auto* used = handed_over_[queue]; used != nullptr) {
    watches_[queue] = loop.watch_bell(*used, [this, queue, &loop] { interrupts_.raise_queue(queue, loop); });
  } else {
    watches_[queue] = loop.watch_bell(doorbells_[queue], [this, queue] { device_.handle_queue(queue); });
  }
  // Whatever became of a ring from before: it costs one look at an empty queue.
  doorbells_[queue].signal();
}

void TransportCore::stop_device() {
  // Posted: whoever waits for it may delete the device, and what ends last may be a request of the device's.
  const auto stopped = [this] {
    device_.loop().post([this] {
      const std::lock_guard lock{mutex_};
      device_stopped_ = true;
      quiet_.notify_all();
    });
  };
  // Interrupts that wait for the end of a turn must not outlive the wires that they go by.
  const auto flush = [this, stopped] {
    on_each_queue([this](uint16_t queue) { device_.queue_loop(queue).flush(); }, stopped);
  };
  on_each_queue([this](uint16_t queue) { watches_[queue].reset(); }, [this, flush] { device_.stop(flush); });
}

void TransportCore::notify_used(uint16_t queue) {
  if (!broken_ && queues_[queue].should_notify()) interrupts_.raise_queue(queue, device_.queue_loop(queue));
}

void TransportCore::notify_config() {
  config_generation_.fetch_add(1, std::memory_order_release);
  interrupts_.raise_config();
}

void TransportCore::needs_reset(std::string_view why) {
  if (broken_.exchange(true)) return;
  on_each_queue([this](uint16_t queue) { watches_[queue].reset(); }, [] {});
  {
    const std::lock_guard lock{mutex_};
    state_.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
  }
  complain(fmt::format("{}, device needs reset", why));
  interrupts_.raise_config();
}

void TransportCore::handle_again(uint16_t queue) {
  device_.queue_loop(queue).ring(doorbells_[queue]);
}

const EventFd& TransportCore::hand_over(uint16_t queue, const EventFd& used) {
  handed_over_[queue] = &used;
  interrupts_.connect_queue(queue, used);
  return doorbells_[queue];
}

void TransportCore::complain(std::string_view what) {
  if (!complaints_.pass()) return;
  log(LogLevel::warning, "{}: {}", device_.name(), what);
}

uint32_t TransportCore::device_feature_select() const {
  const std::lock_guard lock{mutex_};
  return state_.device_feature_select;
}

void TransportCore::set_device_feature_select(uint32_t window) {
  const std::lock_guard lock{mutex_};
  state_.device_feature_select = window;
}

uint32_t TransportCore::device_features() const {
  const std::lock_guard lock{mutex_};
  return window_of(offered_, state_.device_feature_select);
}

uint32_t TransportCore::driver_feature_select() const {
  const std::lock_guard lock{mutex_};
  return state_.driver_feature_select;
}

void TransportCore::set_driver_feature_select(uint32_t window) {
  const std::lock_guard lock{mutex_};
  state_.driver_feature_select = window;
}

uint32_t TransportCore::driver_features() const {
  const std::lock_guard lock{mutex_};
  return window_of(state_.driver_features, state_.driver_feature_select);
}

void TransportCore::set_driver_features(uint32_t bits) {
  const std::lock_guard lock{mutex_};
  if ((state_.status & VIRTIO_CONFIG_S_FEATURES_OK) != 0 || state_.driver_feature_select >= 2) return;
  set_half(state_.driver_features, state_.driver_feature_select == 0 ? Half::low : Half::high, bits);
}

uint32_t TransportCore::queue_select() const {
  const std::lock_guard lock{mutex_};
  return state_.queue_select;
}

void TransportCore::set_queue_select(uint32_t queue) {
  const std::lock_guard lock{mutex_};
  state_.queue_select = queue;
}

const TransportCore::QueueState* TransportCore::selected() const {
  return state_.queue_select < state_.queues.size() ? &state_.queues[state_.queue_select] : nullptr;
}

TransportCore::QueueState* TransportCore::changeable() {
  const bool frozen = phase_ != Phase::idle || (state_.status & VIRTIO_CONFIG_S_DRIVER_OK) != 0;
  if (frozen || state_.queue_select >= state_.queues.size()) return nullptr;
  return &state_.queues[state_.queue_select];
}

uint16_t TransportCore::queue_max_size() const {
  const std::lock_guard lock{mutex_};
  return selected() != nullptr ? max_sizes_[state_.queue_select] : 0;
}

uint16_t TransportCore::queue_size() const {
  const std::lock_guard lock{mutex_};
  const auto* queue = selected();
  return queue != nullptr ? queue->size : 0;
}

void TransportCore::set_queue_size(uint32_t size) {
  const std::lock_guard lock{mutex_};
  auto* queue = changeable();
  if (queue == nullptr || queue->enabled) return;
  if (!std::has_single_bit(size) || size > max_sizes_[state_.queue_select])
    return complain("queue size ignored: not a power of two, or too large");
  queue->size = static_cast<uint16_t>(size);
}

bool TransportCore::queue_enabled() const {
  const std::lock_guard lock{mutex_};
  const auto* queue = selected();
  return queue != nullptr && queue->enabled;
}

void TransportCore::set_queue_enabled(bool enabled) {
  const std::lock_guard lock{mutex_};
  auto* queue = changeable();
  if (queue != nullptr) queue->enabled = enabled;
}

uint32_t TransportCore::queue_address(QueuePart part, Half half) const {
  const std::lock_guard lock{mutex_};
  const auto* queue = selected();
  if (queue == nullptr) return 0;
  return window_of(queue->addresses[static_cast<size_t>(part)], half == Half::low ? 0 : 1);
}

void TransportCore::set_queue_address(QueuePart part, Half half, uint32_t value) {
  const std::lock_guard lock{mutex_};
  auto* queue = changeable();
  if (queue == nullptr || queue->enabled) return;
  set_half(queue->addresses[static_cast<size_t>(part)], half, value);
}

void TransportCore::notify(uint32_t queue) const {
  if (queue < doorbells_.size()) doorbells_[queue].signal();
}

void TransportCore::read_config(uint64_t offset, std::span<std::byte> out) const {
  const size_t size = device_.config_size();
  if (offset > size || out.size() > size - offset) return;
  device_.read_config(static_cast<size_t>(offset), out);
}

void TransportCore::write_config(uint64_t offset, std::span<const std::byte> in) {
  const size_t size = device_.config_size();
  if (offset > size || in.size() > size - offset) return;
  device_.write_config(static_cast<size_t>(offset), in);
}

uint32_t TransportCore::config_generation() const {
  return config_generation_.load(std::memory_order_acquire);
}

}  // namespace vmm::virtio
