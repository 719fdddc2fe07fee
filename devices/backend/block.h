// SPDX-License-Identifier: Apache-2.0
//
// What a block device talks to: a linear array of bytes with asynchronous reads, writes and flushes.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"

namespace vmm::backend {

struct BlockRequest {
  enum class Kind : uint8_t {
    read,
    write,
    flush,         // all completed writes are on stable storage
    discard,       // contents become undefined; space may be given back
    write_zeroes,  // contents become zero
  };
  Kind kind = Kind::read;
  bool may_unmap = false;  // write_zeroes: space may be given back
  uint64_t offset = 0;     // bytes
  uint64_t length = 0;     // bytes; the sum of `buffers` for read and write
  std::span<const iovec> buffers = {};
};

// A way to the disk for one loop. It must outlive its requests.
class BlockChannel {
 public:
  virtual ~BlockChannel() = default;
  // The request lies inside size() and is allowed by read_only(): the device has checked it. `completion`
  // gets 0 or -errno, once, on the loop's thread and never from within submit(). A short transfer is finished
  // or failed here, never reported.
  virtual void submit(const BlockRequest& request, IoCompletion& completion) = 0;
  // Whoever submitted has no use for it any more: what has not been begun is completed with -ECANCELED now,
  // and what has may end with it.
  virtual void cancel() {}
};

class Block {
 public:
  virtual ~Block() = default;
  [[nodiscard]] virtual uint64_t size() const = 0;  // bytes; grows by resize()
  [[nodiscard]] virtual bool read_only() const = 0;
  [[nodiscard]] virtual bool can_discard() const = 0;
  [[nodiscard]] virtual uint32_t block_size() const = 0;  // bytes that the host transfers at least, 512..4096
  [[nodiscard]] virtual uint32_t sector_size() const {
    return 512;
  }  // bytes that requests had better be made of
  // Makes the disk larger, to so many bytes. Any thread.
  virtual Result<void> resize(uint64_t bytes) = 0;
  // The disk must outlive its channels. On the loop's thread, or before it runs.
  [[nodiscard]] virtual Result<std::unique_ptr<BlockChannel>> open_channel(EventLoop& loop) = 0;
};

}  // namespace vmm::backend
