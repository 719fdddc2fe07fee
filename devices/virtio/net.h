// SPDX-License-Identifier: Apache-2.0
//
// Virtio network device (virtio 1.2, 5.1): pairs of queues between a driver and a backend::Net, one for each
// of the queues that the backend has, each worked on a loop of its own choice. Checksums and segmentation are
// offered as far as the backend does them. A driver begins with one pair, and asks for more on the control
// queue.
//
// Missing: filters, a MAC address set by the driver; UDP segmentation, hash reports, receive-side scaling.
// The driver gets every frame the backend has, and filters itself, as it must anyway. Ignored:
// device-writable buffers of sent frames and device-readable ones of receive buffers; header bits without a
// meaning (net_header.h); what follows a control command that is complete. Dropped and counted: frames whose
// header asks for what was not negotiated, or whose length no Ethernet frame has; received frames for which
// the driver has no room.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  static constexpr uint16_t kReceive = 0;  // queues of the first pair (5.1.2)
  static constexpr uint16_t kTransmit = 1;
  static constexpr size_t kMaxPairs = 16;

  using Counts = NetPair::Counts;

  // A pair for each of `loops`, as many as the backend has queues, at most kMaxPairs; the first loop is also
  // the device's. Loops and backend must outlive this, and the backend is this device's alone. `rates` hold
  // for each direction by itself, over all pairs: bytes and frames, one of several segments counted once.
  // What is too much waits: sent frames with the driver, received ones with the backend.
  Net(std::span<EventLoop* const> loops, backend::Net& backend, const backend::MacAddress& mac,
      std::string name, const backend::RateLimit::Rates& rates = {});
  ~Net() override;

  [[nodiscard]] uint16_t type() const override { return 1; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override { return offered_; }
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  [[nodiscard]] size_t config_size() const override { return sizeof(NetConfig); }
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) override {
  }  // all read-only (5.1.4)
  [[nodiscard]] EventLoop& loop() override { return pairs_.front()->loop(); }
  [[nodiscard]] EventLoop& queue_loop(uint16_t queue) override;
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

  // Since the device was made; any thread.
  [[nodiscard]] Counts received() const;
  [[nodiscard]] Counts sent() const;

 private:
  void handle_link(bool up);
  void handle_control();
  [[nodiscard]] std::optional<size_t> wanted_pairs(const Chain& command) const;
  void use_pairs(size_t count);
  void answer(Chain command, uint8_t status);
  void on_each_pair(std::function<void(size_t)> act, std::function<void()> then);

  backend::Net& backend_;
  const backend::MacAddress mac_;
  const std::string name_;
  const uint64_t offered_;
  std::vector<uint16_t> queue_sizes_;
  std::atomic<bool> link_up_;
  backend::RateLimit receive_limit_;
  backend::RateLimit transmit_limit_;
  NetSession session_;
  std::vector<std::unique_ptr<NetPair>> pairs_;

  // The device's loop's, while a driver runs.
  bool running_ = false;
  std::span<Queue> queues_;
  uint16_t control_ = 0;          // the index of the control queue; 0: there is none
  std::optional<Chain> command_;  // that is being done
};

}  // namespace vmm::virtio
