// SPDX-License-Identifier: Apache-2.0
//
// One request to a disk image, from submission to completion: as many file operations as it takes. A long
// transfer is made in steps, a short one continued, an interrupted one repeated, and where the file system
// cannot zero a range, zeros are written.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/backend/block.h"
#include "vmm/core/event_loop.h"

namespace vmm::backend {

class DiskOperations;

class DiskOperation final : public IoCompletion {
 public:
  explicit DiskOperation(DiskOperations& pool) : pool_(pool) {}

  // `completion` gets 0 or -errno. The operation returns to its pool just before that.
  void start(int fd, EventLoop& loop, const BlockRequest& request, IoCompletion& completion);
  void complete(int32_t result) override;
  // Ends with -ECANCELED, unless the step that is under way is the last.
  void cancel() { cancelled_ = true; }

 private:
  // Ways to make a range zero, best first; each falls back to the next where it is not supported.
  enum class Zeroing : uint8_t { punch, zero_range, write };

  void next();
  void go_on();
  [[nodiscard]] std::span<const iovec> part();
  void advance(size_t done);
  void finish(int32_t result);
  [[nodiscard]] bool falls_back(int32_t error);

  DiskOperations& pool_;
  int fd_ = -1;
  EventLoop* loop_ = nullptr;
  IoCompletion* completion_ = nullptr;
  BlockRequest::Kind kind_ = BlockRequest::Kind::read;
  Zeroing zeroing_ = Zeroing::punch;
  uint64_t offset_ = 0;             // of what is left to do
  uint64_t length_ = 0;             // of the same
  std::span<const iovec> buffers_;  // the same; of the request, or of own_
  std::vector<iovec> own_;          // buffers_ cut after a short transfer, or zeros to write
  iovec beginning_{};               // of a buffer that takes several steps
  bool cancelled_ = false;
};

// Operations that are used again, so that a request allocates nothing. Must outlive those in flight.
class DiskOperations {
 public:
  DiskOperations() = default;
  DiskOperations(const DiskOperations&) = delete;
  DiskOperations& operator=(const DiskOperations&) = delete;
  ~DiskOperations();

  DiskOperation& take();
  void cancel();
  void give_back(DiskOperation& operation) { idle_.push_back(&operation); }

 private:
  std::vector<std::unique_ptr<DiskOperation>> all_;
  std::vector<DiskOperation*> idle_;
};

}  // namespace vmm::backend
