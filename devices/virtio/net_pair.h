// SPDX-License-Identifier: Apache-2.0
//
// A pair of queues of a network device (virtio 1.2, 5.1.2), and the backend's queue behind them. Frames go
// from and to the driver's buffers directly. All of it is on the thread of one loop, but for the counters.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/backend/net.h"
#include "devices/virtio/device.h"
#include "devices/virtio/net_header.h"
#include "devices/virtio/net_throttle.h"
#include "devices/virtio/queue.h"

namespace vmm::virtio {

// What the pairs of a device have in common while a driver runs. Set before any pair starts.
struct NetSession {
  Driver* driver = nullptr;
  uint64_t features = 0;
  size_t most_bytes = 0;            // a received frame can have, with header
  std::atomic<bool> broken{false};  // a driver that broke the rules: no ring is touched any more

  [[nodiscard]] bool negotiated(uint64_t feature) const { return (features & feature) != 0; }
  void fail(std::string_view why);  // any loop of the device
};

class NetPair final : public Busy {
 public:
  struct Counts {
    uint64_t frames = 0;
    uint64_t bytes = 0;  // without headers of ours
    uint64_t dropped = 0;
    Counts& operator+=(const Counts& other);
  };

  // Each way; none: no limit.
  struct Limits {
    backend::RateLimit* receive = nullptr;
    backend::RateLimit* transmit = nullptr;
  };

  // Its queues are `first`, to receive, and the one after, to transmit.
  NetPair(EventLoop& loop, backend::NetQueue& backend, NetSession& session, uint16_t first,
          const Limits& limits)
      : loop_(loop),
        backend_(backend),
        session_(session),
        receive_index_(first),
        transmit_index_(static_cast<uint16_t>(first + 1)),
        receive_throttle_(limits.receive),
        transmit_throttle_(limits.transmit) {}

  [[nodiscard]] EventLoop& loop() { return loop_; }

  // A driver runs, and these are its queues; frames move while the pair is enabled. Buffers that the driver
  // gave stay its own when it is disabled, until stop().
  void start(Queue& receive, Queue& transmit);
  void enable();
  void disable();
  void stop();
  void handle_receive();
  void handle_transmit();
  void handle_link_up();

  void end_turn() override;
  bool look() override { return take_frames(); }
  bool rest() override;

  [[nodiscard]] Counts received() const { return received_.read(); }  // any thread
  [[nodiscard]] Counts sent() const { return sent_.read(); }

 private:
  struct Counters {
    std::atomic<uint64_t> frames{0};
    std::atomic<uint64_t> bytes{0};
    std::atomic<uint64_t> dropped{0};
    void count(size_t length);
    void drop() { dropped.fetch_add(1, std::memory_order_relaxed); }
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
    wait_for_limit,
    wait_for_link,  // a backend in trouble has nothing before its link comes back
    broken,
  };

  [[nodiscard]] bool working() const { return enabled_ && !session_.broken; }
  bool take_frames();
  [[nodiscard]] bool transmit(const Chain& chain);
  [[nodiscard]] bool expects_little() const;
  void learn(const Counts& before);
  [[nodiscard]] Progress receive_frame(bool little);
  [[nodiscard]] Progress finish_frame();
  [[nodiscard]] std::optional<Progress> add_buffers(size_t bytes);
  [[nodiscard]] size_t lay_out_room(size_t bytes);
  void deliver(size_t length);
  void write_to_buffers(size_t offset, std::span<const std::byte> bytes);
  void want_receive(bool wanted);
  [[nodiscard]] Result<void> begin();
  void fail(std::string_view why);

  EventLoop& loop_;
  backend::NetQueue& backend_;
  NetSession& session_;
  const uint16_t receive_index_;
  const uint16_t transmit_index_;
  NetThrottle receive_throttle_;
  NetThrottle transmit_throttle_;
  Counters received_;
  Counters sent_;

  // While a driver runs.
  bool enabled_ = false;
  Queue* receive_ = nullptr;
  Queue* transmit_ = nullptr;
  bool staged_ = false;        // sent frames that are not given back yet
  bool receiving_ = false;     // the backend may call
  unsigned lone_ = 0;          // short frames in a row that came alone; see expects_little()
  std::deque<Chain> buffers_;  // receive buffers taken from the queue and not yet filled
  size_t buffer_bytes_ = 0;    // the sum of their sizes
  std::vector<iovec> room_;    // where they are, in their order
  std::optional<Unfinished> unfinished_;
  std::unique_ptr<std::byte[]> spill_;  // kLongestFrame; untouched memory as long as nothing spills
  std::vector<iovec> parts_;            // of the frame at hand
};

}  // namespace vmm::virtio
