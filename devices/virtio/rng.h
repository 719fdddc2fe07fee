// SPDX-License-Identifier: Apache-2.0
//
// Virtio entropy device (virtio 1.2, 5.4): fills buffers with random bytes.
//
// A request gets 4 KiB at most, whatever its length: a driver looks at how much it got (5.4.6.1), and
// overlapping descriptors can make a request of 4 GiB out of one page. Ignored: device-readable buffers
// beside writable ones.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "devices/backend/entropy.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"

namespace vmm::virtio {

class Rng final : public Device {
 public:
  static constexpr size_t kMostBytes = 4096;  // of one request

  Rng(EventLoop& loop, backend::Entropy& entropy, std::string name);

  [[nodiscard]] uint16_t type() const override { return 4; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override { return 0; }
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  [[nodiscard]] size_t config_size() const override { return 0; }
  void read_config(size_t /*offset*/, std::span<std::byte> /*out*/) override {}
  void write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) override {}
  [[nodiscard]] EventLoop& loop() override { return loop_; }
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

  [[nodiscard]] uint64_t bytes() const { return bytes_; }  // given out so far; any thread

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes{64};

  EventLoop& loop_;
  backend::Entropy& entropy_;
  const std::string name_;
  std::span<Queue> queues_;   // the loop's
  Driver* driver_ = nullptr;  // the loop's
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace vmm::virtio
