// SPDX-License-Identifier: Apache-2.0
//
// Virtio block device (virtio 1.2, 5.2): reads, writes, flushes, discards, zeroes and an identity.
//
// Durability: a driver that negotiates FLUSH sees a writeback cache, and what it wrote is on stable storage
// once a flush is done. For a driver that does not, each write is flushed before it is reported (5.2.6.2).
//
// Missing: CONFIG_WCE (a driver cannot choose writethrough any other way), MQ, SECURE_ERASE, LIFETIME, ZONED,
// more than one segment in a discard or write-zeroes request. Ignored: data in a flush request, writes to the
// configuration space.
#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/backend/block.h"
#include "devices/virtio/blk_request.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"
#include "vmm/core/log.h"

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

  // `disk` must outlive the device. `serial` is what GET_ID answers, its first 20 bytes; may be empty.
  Blk(EventLoop& loop, backend::Block& disk, std::string name, std::string_view serial);
  ~Blk() override;

  [[nodiscard]] uint16_t type() const override { return 2; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  [[nodiscard]] size_t config_size() const override;
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t offset, std::span<const std::byte> in) override;
  [[nodiscard]] EventLoop& loop() override { return loop_; }
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

  [[nodiscard]] Counts counts() const;  // any thread

 private:
  class Ticket;
  static constexpr std::array<uint16_t, 1> kQueueSizes{256};

  void begin(uint16_t queue, Chain chain);
  void submit(Ticket& ticket);
  void flush_behind(Ticket& ticket);
  void finish(Ticket& ticket, int32_t result);
  void answer(uint16_t queue, Chain chain, const BlkRequest* request, uint8_t status);
  void count(const BlkRequest& request);
  Ticket& take_ticket();

  EventLoop& loop_;
  backend::Block& disk_;
  const std::string name_;
  std::array<std::byte, VIRTIO_BLK_ID_BYTES> id_{};
  BlkLimits limits_;
  virtio_blk_config config_{};  // never changes

  // The loop's.
  std::span<Queue> queues_;
  Driver* driver_ = nullptr;
  bool write_through_ = false;
  bool broken_ = false;
  std::function<void()> stopped_;  // what stop() left, while requests are in flight
  std::vector<std::unique_ptr<Ticket>> tickets_;
  std::vector<Ticket*> idle_;
  LogLimit errors_logged_{8};

  struct {
    std::atomic<uint64_t> reads{0}, writes{0}, flushes{0}, discards{0}, bytes_read{0}, bytes_written{0},
        errors{0};
  } counts_;
};

}  // namespace vmm::virtio
