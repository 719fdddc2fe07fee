// SPDX-License-Identifier: Apache-2.0
//
// A device that does nothing but take note, for tests of transports.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"

namespace vmm::virtio {

// Two queues; gives every chain back at once, unless told to hold it until stop().
class ProbeDevice final : public Device {
 public:
  static constexpr uint64_t kOwnFeature = 1ULL << 5;

  explicit ProbeDevice(EventLoop& loop) : loop_(loop) {}

  uint16_t type() const override { return 4; }
  std::string_view name() const override { return "probe"; }
  uint64_t features() const override { return kOwnFeature; }
  std::span<const uint16_t> queue_sizes() const override { return sizes_; }
  size_t config_size() const override { return config_.size(); }
  void read_config(size_t offset, std::span<std::byte> out) override {
    for (size_t i = 0; i < out.size(); ++i) out[i] = config_.at(offset + i);
  }
  void write_config(size_t offset, std::span<const std::byte> in) override {
    for (size_t i = 0; i < in.size(); ++i) config_.at(offset + i) = in[i];
  }
  EventLoop& loop() override { return loop_; }

  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override {
    EXPECT_TRUE(loop_.on_loop_thread());
    EXPECT_FALSE(running);
    running = true;
    ++starts;
    negotiated = features;
    queues_ = queues;
    driver_ = &driver;
    if (break_at_start) driver.needs_reset("broken at start");
    if (outsider != nullptr) driver.hand_over(0, *outsider);
  }
  void handle_queue(uint16_t index) override {
    EXPECT_TRUE(loop_.on_loop_thread());
    EXPECT_TRUE(running);
    ++handled;
    while (true) {
      auto popped = queues_[index].pop();
      if (!popped) return driver_->needs_reset(to_string(popped.error()));
      if (!*popped) return;
      if (hold) {
        held_.push_back(std::move(**popped));
        ++held;
        continue;
      }
      queues_[index].complete(std::move(**popped), 0);
      driver_->notify_used(index);
    }
  }
  void stop(std::function<void()> done) override {
    EXPECT_TRUE(loop_.on_loop_thread());
    EXPECT_TRUE(running);
    ++stops;
    if (stop_delay == std::chrono::milliseconds{0}) return finish(std::move(done));
    timer_ = Timer::create(loop_, [this, done = std::move(done)] { finish(done); }).value();
    timer_->arm(stop_delay);
  }
  void finish(const std::function<void()>& done) {
    // As disk I/O would: what was in flight is given back into memory that must still be the driver's.
    for (auto& chain : held_) queues_[0].complete(std::move(chain), 0);
    held_.clear();
    timer_.reset();  // on the loop, where it belongs
    running = false;
    done();
  }

  std::atomic<bool> running{false};
  std::atomic<int> starts{0};
  std::atomic<int> stops{0};
  std::atomic<int> handled{0};
  std::atomic<uint64_t> negotiated{0};
  std::atomic<bool> hold{false};
  std::atomic<int> held{0};
  std::atomic<bool> break_at_start{false};
  std::chrono::milliseconds stop_delay{0};
  Driver* driver_ = nullptr;
  const EventFd* outsider = nullptr;  // somebody else works queue 0, and rings this

 private:
  EventLoop& loop_;
  std::array<uint16_t, 2> sizes_{64, 8};
  std::array<std::atomic<std::byte>, 12> config_{};  // vCPUs read and write it at once
  std::span<Queue> queues_;
  std::vector<Chain> held_;
  std::optional<Timer> timer_;
};

}  // namespace vmm::virtio
