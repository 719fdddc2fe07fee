// SPDX-License-Identifier: Apache-2.0
//
// The two ends of a decompressor. The source hands out pieces of a file; the sink hands out room, so that a
// decompressor writes straight into guest memory where the sink knows that the bytes belong there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "firmware/input_file.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  // Where the next bytes go: never empty, valid until the next call of either function.
  virtual std::span<std::byte> room() = 0;
  // The first `count` bytes of room() are there.
  virtual Result<void> filled(size_t count) = 0;
};

// A part of a file, in pieces.
class ByteSource {
 public:
  // [offset, offset + length) must lie inside `file`, which must outlive the source.
  ByteSource(const InputFile& file, uint64_t offset, uint64_t length)
      : file_(file), offset_(offset), left_(length), buffer_(std::min<uint64_t>(length, kPiece)) {}

  // The next piece, valid until the next call; empty at the end.
  Result<std::span<const std::byte>> next() {
    const auto piece =
        std::span{buffer_}.first(static_cast<size_t>(std::min<uint64_t>(left_, buffer_.size())));
    VMM_TRY(file_.read(offset_, piece));
    offset_ += piece.size();
    left_ -= piece.size();
    return piece;
  }

  [[nodiscard]] const InputFile& file() const { return file_; }

 private:
  static constexpr uint64_t kPiece = 256 << 10;  // small enough to stay in the second-level cache
  const InputFile& file_;
  uint64_t offset_;
  uint64_t left_;
  std::vector<std::byte> buffer_;
};

}  // namespace vmm::firmware
