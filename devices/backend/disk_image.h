// SPDX-License-Identifier: Apache-2.0
//
// A disk in a raw file or on a block device of the host. Its bytes are the guest's bytes: no format is ever
// looked for in them, because a guest could write one that names other files of the host.
//
// A writer locks its image against everybody, readers against writers (open file description locks,
// fcntl(2)), so two machines never write one disk. A block device that the host has mounted is not opened for
// writing.
//
// All requests come from one loop's thread. Discards and zeroes are fallocate(2) on files and on block
// devices alike: the ioctls for devices would keep the loop waiting.
//
// Missing: O_DIRECT; an image that grows or shrinks while it is open keeps the size it had.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "devices/backend/block.h"
#include "devices/backend/disk_operation.h"
#include "vmm/core/fd.h"
#include "vmm/core/result.h"

namespace vmm::backend {

class DiskImage final : public Block {
 public:
  enum class Access : uint8_t { read_write, read_only };

  // Errors name the path, the fault and the remedy.
  static Result<std::unique_ptr<DiskImage>> open(const std::string& path, Access access);

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool read_only() const override { return access_ == Access::read_only; }
  [[nodiscard]] bool can_discard() const override { return can_discard_; }
  [[nodiscard]] uint32_t block_size() const override { return block_size_; }
  void submit(EventLoop& loop, const BlockRequest& request, IoCompletion& completion) override;

 private:
  DiskImage(Fd fd, Access access, uint64_t size, uint32_t block_size, bool can_discard);

  Fd fd_;
  const Access access_;
  const uint64_t size_;
  const uint32_t block_size_;
  const bool can_discard_;
  DiskOperations operations_;
};

}  // namespace vmm::backend
