// SPDX-License-Identifier: Apache-2.0
//
// Virtio block device (virtio 1.2, 5.2): reads, writes, flushes, discards, zeroes and an identity.
//
// Each queue is worked by a lane of its own, on the loop that it was given. What a turn of the loop completes
// becomes visible at once, with one update of the used ring and at most one interrupt; while the loop is busy
// the driver need not ring.
//
// Durability: a driver that negotiates FLUSH sees a writeback cache, and what it wrote is on stable storage
// once a flush is done. For a driver that does not, each write is flushed before it is reported (5.2.6.2).
//
// Missing: CONFIG_WCE (a driver cannot choose writethrough any other way), SECURE_ERASE, LIFETIME, ZONED,
// more than one segment in a discard or write-zeroes request. Ignored: data in a flush request, writes to the
// configuration space.
#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/backend/block.h"
#include "devices/virtio/blk_request.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"
#include "vmm/core/log.h"
#include "vmm/core/result.h"

namespace vmm::virtio {

class Blk final : public Device {
 public:
  struct Counts {
    uint64_t reads = 0;
    uint64_t writes = 0;   // write-zeroes included
    uint64_t flushes = 0;  // as the driver asked for them
    uint64_t discards = 0;
    uint64_t bytes_read = 0;
    uint64_t bytes_written = 0;
    uint64_t errors = 0;  // requests answered with an error, whoever's fault it was
  };

  static constexpr size_t kMaxQueues = 256;

  // A queue for each of `loops`, at most kMaxQueues; the first is also the device's. The loops, which do not
  // run yet, and `disk` must outlive the device. `serial` is what GET_ID answers, its first 20 bytes; may be
  // empty.
  static Result<std::unique_ptr<Blk>> create(std::span<EventLoop* const> loops, backend::Block& disk,
                                             std::string name, std::string_view serial);
  ~Blk() override;

  [[nodiscard]] uint16_t type() const override { return 2; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  [[nodiscard]] size_t config_size() const override;
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t offset, std::span<const std::byte> in) override;
  [[nodiscard]] EventLoop& loop() override;
  [[nodiscard]] EventLoop& queue_loop(uint16_t queue) override;
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

  // Makes the disk larger, to so many bytes, and tells the driver. Any thread.
  Result<void> resize(uint64_t bytes);

  [[nodiscard]] Counts counts() const;  // any thread

 private:
  class Ticket;
  class Lane;

  Blk(backend::Block& disk, size_t queues, std::string name, std::string_view serial);
  void count(const BlkRequest& request);

  backend::Block& disk_;
  const std::string name_;
  std::array<std::byte, VIRTIO_BLK_ID_BYTES> id_{};
  BlkLimits limits_;  // less the disk's size, which may change
  std::mutex config_mutex_;
  virtio_blk_config config_{};  // guarded by config_mutex_, for its capacity may change
  std::vector<uint16_t> queue_sizes_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // by queue

  // Set by start(), on the device's loop, before any lane begins. None after stop().
  Driver* driver_ = nullptr;
  bool write_through_ = false;
  std::atomic<bool> broken_{false};  // a driver that broke the rules: no ring is touched any more

  LogLimit errors_logged_{8};
  struct {
    std::atomic<uint64_t> reads{0}, writes{0}, flushes{0}, discards{0}, bytes_read{0}, bytes_written{0},
        errors{0};
  } counts_;
};

}  // namespace vmm::virtio
