// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

namespace vmm::virtio {
namespace {

// One turn of the loop writes no more than this, so that a chain that names the same gigabyte many times
// keeps nothing else waiting.
constexpr size_t kBytesPerTurn = size_t{256} * 1024;
constexpr size_t kCopyBytes = 4096;

constexpr size_t kEmergencyWrite = offsetof(virtio_console_config, emerg_wr);

}  // namespace

Console::Console(std::string name, EventLoop& loop, backend::Console& backend)
    : name_(std::move(name)), loop_(loop), backend_(backend), window_(backend.window()) {
  backend_.set_input([this](std::span<const std::byte> input) { return receive(input); });
  backend_.set_resize([this](backend::WindowSize window) { set_window(window); });
}

Console::~Console() {
  backend_.set_input({});
  backend_.set_resize({});
}

uint16_t Console::type() const {
  return VIRTIO_ID_CONSOLE;
}

uint64_t Console::features() const {
  return (1ULL << VIRTIO_CONSOLE_F_SIZE) | (1ULL << VIRTIO_CONSOLE_F_EMERG_WRITE);
}

size_t Console::config_size() const {
  return sizeof(virtio_console_config);
}

void Console::read_config(size_t offset, std::span<std::byte> out) {
  const auto window = window_.load(std::memory_order_relaxed);
  virtio_console_config config{};
  config.cols = window.columns;
  config.rows = window.rows;
  config.max_nr_ports = 1;
  std::memcpy(out.data(), std::as_bytes(std::span{&config, 1}).data() + offset, out.size());
}

void Console::write_config(size_t offset, std::span<const std::byte> in) {
  // One character, before any queue works (5.3.4); on the vCPU's thread, as the backend allows.
  if (offset == kEmergencyWrite && !in.empty()) backend_.write(in.first(1));
}

void Console::start(uint64_t features, std::span<Queue> queues, Driver& driver) {
  driver_ = &driver;
  queues_ = queues;
  features_ = features;
  // Linux reads the size only when it is told of a change.
  if (announces_size()) driver_->notify_config();
  if (!queues_[kReceive].ready()) return;
  queues_[kReceive].disable_doorbell();
  input_waits_ = false;
  backend_.resume();
}

void Console::stop(std::function<void()> done) {
  driver_ = nullptr;
  queues_ = {};
  output_.reset();
  input_waits_ = true;
  done();
}

void Console::handle_queue(uint16_t index) {
  if (driver_ == nullptr) return;
  if (index == kTransmit) return transmit();
  if (!std::exchange(input_waits_, false)) return;
  queues_[kReceive].disable_doorbell();
  backend_.resume();
}

size_t Console::receive(std::span<const std::byte> input) {
  size_t taken = 0;
  if (driver_ == nullptr || !queues_[kReceive].ready()) return taken;
  auto& queue = queues_[kReceive];
  // Buffers without room are possible, so chains are counted, not bytes.
  for (unsigned chains = 0; taken < input.size() && !input_waits_; ++chains) {
    if (chains == queue.size()) {
      input_waits_ = true;
      driver_->handle_again(kReceive);
      break;
    }
    auto next = queue.pop();
    if (!next) {
      fail(next.error());
      return taken;
    }
    if (!*next) {
      input_waits_ = !queue.enable_doorbell();
      continue;
    }
    auto& chain = **next;
    const auto part = input.subspan(taken, std::min(input.size() - taken, chain.writable_size()));
    static_cast<void>(chain.copy_out(0, part));  // cannot fail: the part is no longer than the room
    taken += part.size();
    queue.complete(std::move(chain), static_cast<uint32_t>(part.size()));
  }
  driver_->notify_used(kReceive);
  return taken;
}

void Console::transmit() {
  auto& queue = queues_[kTransmit];
  queue.disable_doorbell();
  std::array<std::byte, kCopyBytes> bytes;
  size_t budget = kBytesPerTurn;
  unsigned chains = 0;
  while (true) {
    if (!output_) {
      auto next = queue.pop();
      if (!next) return fail(next.error());
      if (*next) {
        output_.emplace(Output{.chain = std::move(**next)});
      } else if (!queue.enable_doorbell()) {
        break;
      } else {
        ++chains;  // a driver that moves its index to and fro gets its share and no more
      }
    }
    if (budget == 0 || chains >= queue.size()) {
      driver_->handle_again(kTransmit);
      break;
    }
    if (!output_) continue;
    const size_t left = output_->chain.readable_size() - output_->offset;
    const auto part = std::span{bytes}.first(std::min({left, budget, bytes.size()}));
    if (!part.empty() && output_->chain.copy_in(output_->offset, part)) backend_.write(part);
    output_->offset += part.size();
    budget -= part.size();
    if (part.size() < left) continue;
    queue.complete(std::move(output_->chain), 0);
    output_.reset();
    ++chains;
  }
  driver_->notify_used(kTransmit);
}

void Console::set_window(backend::WindowSize window) {
  if (window_.exchange(window, std::memory_order_relaxed) == window) return;
  if (driver_ != nullptr && announces_size()) driver_->notify_config();
}

bool Console::announces_size() const {
  return (features_ & (1ULL << VIRTIO_CONSOLE_F_SIZE)) != 0;
}

void Console::fail(QueueFault fault) {
  std::exchange(driver_, nullptr)->needs_reset(to_string(fault));
}

}  // namespace vmm::virtio
