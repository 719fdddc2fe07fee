// SPDX-License-Identifier: Apache-2.0
//
// Virtio network device (virtio 1.2, 5.1) whose queues the host's kernel works: a frame goes between guest
// memory and a tap without this process, and so do, as far as the transport can, doorbells and interrupts.
// This is the rest: features, configuration, link state, start and stop.
//
// A ring is judged before the kernel sees it (Queue::create); chains and buffers the kernel judges itself, by
// the table of guest memory that it was given, and says so: the device then needs reset.
//
// Missing: what net.h says, and counts of frames. Ignored: "checksum valid" of the tap reaches a driver that
// did not ask for it (5.1.6.4.1).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "devices/backend/mac_address.h"
#include "devices/backend/net.h"
#include "devices/backend/vhost.h"
#include "devices/virtio/device.h"
#include "devices/virtio/net_header.h"
#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm::virtio {

class VhostNet final : public Device {
 public:
  // `tap` is what `vhost` was made with; both must outlive this, and are this device's alone. `memory` is
  // what the driver's queues lie in.
  static Result<std::unique_ptr<VhostNet>> create(EventLoop& loop, backend::Net& tap, backend::Vhost& vhost,
                                                  const GuestMemory& memory, const backend::MacAddress& mac,
                                                  std::string name);
  ~VhostNet() override;

  [[nodiscard]] uint16_t type() const override { return 1; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override { return offered_; }
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  [[nodiscard]] size_t config_size() const override { return sizeof(NetConfig); }
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) override {
  }  // all read-only (5.1.4)
  [[nodiscard]] EventLoop& loop() override { return loop_; }
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t /*index*/) override {}  // the kernel hears the doorbells
  void stop(std::function<void()> done) override;

 private:
  static constexpr uint16_t kQueues = 2;  // received frames, sent frames (5.1.2)
  static constexpr std::array<uint16_t, kQueues> kQueueSizes{256, 256};

  struct Events {
    std::array<EventFd, kQueues> used;  // by queue: the kernel has used buffers
    EventFd broken;                     // it has found what a driver must not do
  };
  VhostNet(EventLoop& loop, backend::Net& tap, backend::Vhost& vhost, const GuestMemory& memory,
           const backend::MacAddress& mac, std::string name, Events events);
  [[nodiscard]] Result<void> begin(std::span<Queue> queues);
  void handle_link(bool up);
  void fail_driver(std::string_view why);
  void halt();

  EventLoop& loop_;
  backend::Net& tap_;
  backend::Vhost& vhost_;
  const GuestMemory& memory_;
  const backend::MacAddress mac_;
  const std::string name_;
  const uint64_t offered_;
  const Events events_;
  std::atomic<bool> link_up_;

  // The loop's, while a driver runs.
  bool running_ = false;
  uint64_t features_ = 0;
  Driver* driver_ = nullptr;
  EventLoop::Watch broken_watch_;
};

}  // namespace vmm::virtio
