// SPDX-License-Identifier: Apache-2.0
//
// One request as it came through a virtqueue: the buffers of a descriptor chain, copied out of the ring and
// checked, in two parts (virtio 1.2, 2.7.4.2): what the driver wrote for the device, then room for its
// answer.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/guest_memory.h"

namespace vmm::virtio {

// The owner gives it back by Queue::complete exactly once. After a reset of its queue it is stale, and is
// dropped.
class Chain {
 public:
  Chain(Chain&&) noexcept = default;
  Chain& operator=(Chain&&) noexcept = default;
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain() = default;

  [[nodiscard]] uint16_t head() const { return head_; }
  [[nodiscard]] size_t readable_size() const { return readable_size_; }  // bytes the driver gave to read
  [[nodiscard]] size_t writable_size() const { return writable_size_; }  // bytes the driver gave to fill

  // Copies from the readable part, or into the writable part, at a byte offset across buffer borders. False,
  // and nothing is copied, if the part is shorter than that.
  [[nodiscard]] bool copy_in(size_t offset, std::span<std::byte> to) const;
  [[nodiscard]] bool copy_out(size_t offset, std::span<const std::byte> from) const;

  // Appends host vectors for `length` bytes from `offset` of the readable or writable part; false, and
  // nothing is appended, if the part is shorter than that.
  [[nodiscard]] bool readable_iov(size_t offset, size_t length, std::vector<iovec>& to) const;
  [[nodiscard]] bool writable_iov(size_t offset, size_t length, std::vector<iovec>& to) const;

  // The buffers of the writable part themselves, for a device that acts on the memory and not on what is in
  // it.
  [[nodiscard]] std::span<const GuestSlice> writable() const {
    return std::span{buffers_}.subspan(readable_count_);
  }

 private:
  friend class Queue;
  Chain() = default;
  [[nodiscard]] std::span<const GuestSlice> readable() const {
    return std::span{buffers_}.first(readable_count_);
  }

  uint16_t head_ = 0;
  size_t readable_count_ = 0;  // the first so many of buffers_ are readable, the rest writable
  std::vector<GuestSlice> buffers_;
  size_t readable_size_ = 0;
  size_t writable_size_ = 0;
};

}  // namespace vmm::virtio
