// SPDX-License-Identifier: Apache-2.0
//
// A disk in a raw file or on a block device of the host. Its bytes are the guest's bytes: no format is ever
// looked for in them, because a guest could write one that names other files of the host.
//
// A writer locks its image against everybody, readers against writers (open file description locks,
// fcntl(2)), so two machines never write one disk. A block device that the host has mounted is not opened for
// writing.
//
// Discards and zeroes are fallocate(2) on files and on block devices alike: the ioctls for devices would keep
// the loop waiting.
//
// With direct I/O the host's cache is passed by. A request that is not aligned as that takes goes through the
// cache all the same: the kernel keeps the two ways consistent.
//
// Missing: shrinking. An image that somebody else makes larger or smaller keeps the size it had.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "devices/backend/block.h"
#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class DiskImage final : public Block {
 public:
  enum class Access : uint8_t { read_write, read_only };
  enum class Cache : uint8_t { host, direct };

  // Errors name the path, the fault and the remedy.
  static Result<std::unique_ptr<DiskImage>> open(const std::string& path, Access access,
                                                 Cache cache = Cache::host);

  [[nodiscard]] uint64_t size() const override { return size_.load(); }
  [[nodiscard]] bool read_only() const override { return access_ == Access::read_only; }
  [[nodiscard]] bool can_discard() const override { return can_discard_; }
  [[nodiscard]] uint32_t block_size() const override { return block_size_; }
  [[nodiscard]] uint32_t sector_size() const override { return direct_ ? direct_->offset_alignment : 512; }
  // A file is made larger, by a hole; a block device must have that size already.
  Result<void> resize(uint64_t bytes) override;
  [[nodiscard]] Result<std::unique_ptr<BlockChannel>> open_channel(EventLoop& loop) override;

 private:
  struct Direct {
    Fd fd;                            // the same file, with O_DIRECT
    uint32_t offset_alignment = 512;  // bytes, powers of two
    uint32_t memory_alignment = 512;
  };
  static Result<Direct> open_direct(const std::string& path, Access access, const Fd& known);
  DiskImage(std::string path, Fd fd, std::optional<Direct> direct, Access access, uint64_t size,
            uint32_t block_size, bool can_discard);
  [[nodiscard]] int fd_for(const BlockRequest& request) const;

  const std::string path_;
  const Fd fd_;
  const std::optional<Direct> direct_;
  const Access access_;
  std::atomic<uint64_t> size_;
  const uint32_t block_size_;
  const bool can_discard_;
};

}  // namespace vmm::backend
