// SPDX-License-Identifier: Apache-2.0
//
// A disk that is kept to a bandwidth and to a number of requests a second, by a token bucket each, over all
// of its channels together. Requests wait in order, each channel's by themselves. Flushes neither wait nor
// count: they only cover what has been let through.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "devices/backend/block.h"
#include "devices/backend/token_bucket.h"

namespace vmm::backend {

class ThrottledBlock final : public Block {
 public:
  struct Limits {
    uint64_t bytes_per_second = 0;     // read and written; 0: any
    uint64_t requests_per_second = 0;  // 0: any
  };
  ThrottledBlock(std::unique_ptr<Block> disk, const Limits& limits)
      : disk_(std::move(disk)), bytes_(limits.bytes_per_second), requests_(limits.requests_per_second) {}

  [[nodiscard]] uint64_t size() const override { return disk_->size(); }
  [[nodiscard]] bool read_only() const override { return disk_->read_only(); }
  [[nodiscard]] bool can_discard() const override { return disk_->can_discard(); }
  [[nodiscard]] uint32_t block_size() const override { return disk_->block_size(); }
  [[nodiscard]] uint32_t sector_size() const override { return disk_->sector_size(); }
  Result<void> resize(uint64_t bytes) override { return disk_->resize(bytes); }
  [[nodiscard]] Result<std::unique_ptr<BlockChannel>> open_channel(EventLoop& loop) override;

 private:
  class Channel;
  using Clock = TokenBucket::Clock;

  // Zero: the request may go, and has been counted. Else how long to wait before asking again.
  [[nodiscard]] Clock::duration admit(const BlockRequest& request, Clock::time_point now);

  const std::unique_ptr<Block> disk_;
  std::mutex mutex_;  // guards the buckets; channels are on several threads
  TokenBucket bytes_;
  TokenBucket requests_;
};

}  // namespace vmm::backend
