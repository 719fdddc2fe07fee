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

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/backend/mac_address.h"
#include "devices/backend/net.h"
#include "devices/virtio/device.h"
#include "devices/virtio/net_header.h"
#include "devices/virtio/queue.h"

namespace vmm::virtio {

class Net final : public Device {
 public:
  static constexpr uint16_t kReceive = 0;  // queues (5.1.2)
  static constexpr uint16_t kTransmit = 1;

  struct Counts {
    uint64_t frames = 0;
    uint64_t bytes = 0;  // without headers of ours
    uint64_t dropped = 0;
  };

  // The backend must outlive this, and is this device's alone.
  Net(EventLoop& loop, backend::Net& backend, const backend::MacAddress& mac, std::string name);
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
  [[nodiscard]] Counts received() const { return received_.read(); }
  [[nodiscard]] Counts sent() const { return sent_.read(); }

 private:
  static constexpr std::array<uint16_t, 2> kQueueSizes{256, 256};

  struct Counters {
    std::atomic<uint64_t> frames{0};
    std::atomic<uint64_t> bytes{0};
    std::atomic<uint64_t> dropped{0};
    void count(size_t length);
    [[nodiscard]] Counts read() const;
  };
  // A frame that was longer than the buffers at hand: its end is in spill_, and waits for more of them.
  struct Unfinished {
    size_t length;   // with header
    size_t written;  // of these in buffers already
  };
  enum class Progress : uint8_t {
    more,
    wait_for_buffers,
    wait_for_frames,
    wait_for_link,  // a backend in trouble has nothing before its link comes back
    broken,
  };

  [[nodiscard]] bool negotiated(uint64_t feature) const { return (features_ & feature) != 0; }
  void handle_transmit();
  [[nodiscard]] bool transmit(const Chain& chain);
  void handle_receive();
  [[nodiscard]] Progress receive_frame();
  [[nodiscard]] Progress finish_frame();
  [[nodiscard]] std::optional<Progress> add_buffers(size_t bytes);
  [[nodiscard]] size_t lay_out_buffers();
  void deliver(size_t length);
  void write_to_buffers(size_t offset, std::span<const std::byte> bytes);
  void want_receive(bool wanted);
  void handle_link(bool up);
  void fail_driver(std::string_view why);
  void halt();

  EventLoop& loop_;
  backend::Net& backend_;
  const backend::MacAddress mac_;
  const std::string name_;
  const uint64_t offered_;
  std::atomic<bool> link_up_;
  Counters received_;
  Counters sent_;

  // The loop's, while a driver runs.
  bool running_ = false;
  uint64_t features_ = 0;
  std::span<Queue> queues_;
  Driver* driver_ = nullptr;
  bool receiving_ = false;     // the backend may call
  size_t most_bytes_ = 0;      // a received frame can have, with header
  std::deque<Chain> buffers_;  // receive buffers taken from the queue and not yet filled
  size_t buffer_bytes_ = 0;    // the sum of their sizes
  std::optional<Unfinished> unfinished_;
  std::unique_ptr<std::byte[]> spill_;  // kLongestFrame; untouched memory as long as nothing spills
  std::vector<iovec> parts_;            // of the frame at hand
};

}  // namespace vmm::virtio
