// SPDX-License-Identifier: Apache-2.0
//
// Virtio network device (virtio 1.2, 5.1): one pair of queues between a driver and a backend::Net. Frames go
// from and to the driver's buffers directly; checksums and segmentation are offered as far as the backend
// does them.
//
// Missing: the control queue, and with it filters, a MAC address set by the driver, several queue pairs; UDP
// segmentation, hash reports. The driver gets every frame the backend has, and filters itself, as it must
// anyway. Ignored: device-writable buffers of sent frames and device-readable ones of receive buffers; header
// bits without a meaning (net_header.h). Dropped and counted: frames whose header asks for what was not
// negotiated, or whose length no Ethernet frame has; received frames for which the driver has no room.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "devices/backend/mac_address.h"
#include "devices/backend/net.h"
#include "devices/backend/rate_limit.h"
#include "devices/virtio/device.h"
#include "devices/virtio/net_header.h"
#include "devices/virtio/net_pair.h"
#include "devices/virtio/queue.h"

namespace vmm::virtio {

class Net final : public Device {
 public:
  static constexpr uint16_t kReceive = 0;  // queues (5.1.2)
  static constexpr uint16_t kTransmit = 1;

  using Counts = NetPair::Counts;

  // The backend must outlive this, and is this device's alone. `rates` hold for each direction by itself:
  // bytes and frames, one of several segments counted once. What is too much waits: sent frames with the
  // driver, received ones with the backend.
  Net(EventLoop& loop, backend::Net& backend, const backend::MacAddress& mac, std::string name,
      const backend::RateLimit::Rates& rates = {});
  ~Net() override;

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
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

  // Since the device was made; any thread.
  [[nodiscard]] Counts received() const { return pair_.received(); }
  [[nodiscard]] Counts sent() const { return pair_.sent(); }

 private:
  static constexpr std::array<uint16_t, 2> kQueueSizes{256, 256};

  void handle_link(bool up);

  EventLoop& loop_;
  backend::Net& backend_;
  const backend::MacAddress mac_;
  const std::string name_;
  const uint64_t offered_;
  std::atomic<bool> link_up_;
  bool running_ = false;  // the loop's
  backend::RateLimit receive_limit_;
  backend::RateLimit transmit_limit_;
  NetSession session_;
  NetPair pair_;
};

}  // namespace vmm::virtio
