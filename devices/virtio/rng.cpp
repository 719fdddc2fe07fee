// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/rng.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace vmm::virtio {

Rng::Rng(EventLoop& loop, backend::Entropy& entropy, std::string name)
    : loop_(loop), entropy_(entropy), name_(std::move(name)) {}

void Rng::start(uint64_t /*features*/, std::span<Queue> queues, Driver& driver) {
  queues_ = queues;
  driver_ = &driver;
}

// Nothing is ever in flight: a request is answered in the turn that takes it.
void Rng::stop(std::function<void()> done) {
  done();
}

void Rng::handle_queue(uint16_t index) {
  auto& queue = queues_[index];
  queue.disable_doorbell();
  for (uint32_t share = queue.size(); share > 0; --share) {
    auto popped = queue.pop();
    if (!popped) return driver_->needs_reset(to_string(popped.error()));
    if (!*popped) {
      if (queue.enable_doorbell()) continue;
      return;
    }
    auto& chain = **popped;
    std::array<std::byte, kMostBytes> bytes;
    const auto random = std::span{bytes}.first(std::min(chain.writable_size(), bytes.size()));
    if (random.empty()) return driver_->needs_reset("a request without room for a byte");
    entropy_.fill(random);
    [[maybe_unused]] const bool fits = chain.copy_out(0, random);
    assert(fits);
    bytes_ += random.size();
    queue.complete(std::move(chain), static_cast<uint32_t>(random.size()));
    driver_->notify_used(index);
  }
  driver_->handle_again(index);
}

}  // namespace vmm::virtio
