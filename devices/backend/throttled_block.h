// SPDX-License-Identifier: Apache-2.0
//
// A disk that is kept to a bandwidth and to a number of requests a second, over all of its channels together.
// Requests wait in order, each channel's by themselves. Flushes neither wait nor count: they only cover what
// has been let through.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "devices/backend/block.h"
#include "devices/backend/rate_limit.h"

namespace vmm::backend {

class ThrottledBlock final : public Block {
 public:
  // The bytes are those read and written.
  ThrottledBlock(std::unique_ptr<Block> disk, const RateLimit::Rates& rates)
      : disk_(std::move(disk)), limit_(rates) {}

  [[nodiscard]] uint64_t size() const override { return disk_->size(); }
  [[nodiscard]] bool read_only() const override { return disk_->read_only(); }
  [[nodiscard]] bool can_discard() const override { return disk_->can_discard(); }
  [[nodiscard]] uint32_t block_size() const override { return disk_->block_size(); }
  [[nodiscard]] uint32_t sector_size() const override { return disk_->sector_size(); }
  Result<void> resize(uint64_t bytes) override { return disk_->resize(bytes); }
  [[nodiscard]] Result<std::unique_ptr<BlockChannel>> open_channel(EventLoop& loop) override;

 private:
  class Channel;

  const std::unique_ptr<Block> disk_;
  RateLimit limit_;
};

}  // namespace vmm::backend
