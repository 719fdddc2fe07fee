// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/disk_operation.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>

namespace vmm::backend {
namespace {

constexpr size_t kMostBuffers = 1024;  // UIO_MAXIOV: what one readv or writev takes
// A guest may ask for 4 GiB at once, of memory that it has once. Of what lies in the host's cache, one step
// is one copy on the loop's thread, and a reset waits for the step that has been begun.
constexpr size_t kMostBytes = 1 << 20;

// Zeros to write where a range cannot be zeroed otherwise, 1 MiB at a time.
alignas(4096) constinit const std::array<std::byte, 65536> kZeros{};
constexpr size_t kZeroBuffers = 16;

bool unsupported(int32_t error) {
  return error == -EOPNOTSUPP || error == -ENOSYS || error == -EINVAL;
}

}  // namespace

void DiskOperation::start(int fd, EventLoop& loop, const BlockRequest& request, IoCompletion& completion) {
  fd_ = fd;
  loop_ = &loop;
  completion_ = &completion;
  kind_ = request.kind;
  zeroing_ = request.may_unmap ? Zeroing::punch : Zeroing::zero_range;
  offset_ = request.offset;
  length_ = request.length;
  buffers_ = request.buffers;
  cancelled_ = false;
  next();
}

// Submits the next step of what is left.
void DiskOperation::next() {
  using Kind = BlockRequest::Kind;
  FileOp op{.fd = fd_, .offset = offset_, .length = length_};
  switch (kind_) {
    case Kind::read:
    case Kind::write:
      op.kind = kind_ == Kind::read ? FileOp::Kind::readv : FileOp::Kind::writev;
      op.buffers = part();
      break;
    case Kind::flush:
      op.kind = FileOp::Kind::fdatasync;
      break;
    case Kind::discard:
      op.kind = FileOp::Kind::fallocate;
      op.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      break;
    case Kind::write_zeroes:
      op.kind = FileOp::Kind::fallocate;
      op.mode =
          FALLOC_FL_KEEP_SIZE | (zeroing_ == Zeroing::punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
      if (zeroing_ == Zeroing::write) {
        op.kind = FileOp::Kind::writev;
        own_.clear();
        for (uint64_t left = length_; left > 0 && own_.size() < kZeroBuffers;) {
          const size_t piece = std::min<uint64_t>(left, kZeros.size());
          // writev(2) reads through the pointer, whatever iovec says.
          own_.push_back({const_cast<std::byte*>(kZeros.data()), piece});
          left -= piece;
        }
        op.buffers = own_;
      }
      break;
  }
  loop_->submit(op, *this);
}

// As many of the buffers as one step takes, or the beginning of the first.
std::span<const iovec> DiskOperation::part() {
  size_t count = 0;
  size_t bytes = 0;
  const size_t most = std::min(buffers_.size(), kMostBuffers);
  for (; count < most && buffers_[count].iov_len <= kMostBytes - bytes; ++count)
    bytes += buffers_[count].iov_len;
  if (count > 0 || most == 0) return buffers_.first(count);
  beginning_ = {buffers_.front().iov_base, kMostBytes};
  return {&beginning_, 1};
}

void DiskOperation::complete(int32_t result) {
  using Kind = BlockRequest::Kind;
  if (result == -EINTR || result == -EAGAIN) return go_on();
  const bool transfer = kind_ == Kind::read || kind_ == Kind::write ||
                        (kind_ == Kind::write_zeroes && zeroing_ == Zeroing::write);
  if (result < 0) return falls_back(result) ? go_on() : finish(result);
  if (!transfer) return finish(0);
  // Nothing moved: the image has been truncated under us.
  if (result == 0 && length_ != 0) return finish(-EIO);
  advance(static_cast<size_t>(result));
  return length_ == 0 ? finish(0) : go_on();
}

void DiskOperation::go_on() {
  return cancelled_ ? finish(-ECANCELED) : next();
}

bool DiskOperation::falls_back(int32_t error) {
  if (kind_ != BlockRequest::Kind::write_zeroes || zeroing_ == Zeroing::write || !unsupported(error))
    return false;
  zeroing_ = zeroing_ == Zeroing::punch ? Zeroing::zero_range : Zeroing::write;
  return true;
}

void DiskOperation::advance(size_t done) {
  offset_ += done;
  length_ -= done;
  if (kind_ == BlockRequest::Kind::write_zeroes || length_ == 0) return;
  while (done >= buffers_.front().iov_len) {
    done -= buffers_.front().iov_len;
    buffers_ = buffers_.subspan(1);
  }
  if (done == 0) return;
  // In the middle of a buffer: from here on with a list of our own. (A copy first, for it may be that list
  // already.)
  std::vector<iovec> rest{buffers_.begin(), buffers_.end()};
  rest.front().iov_base = static_cast<std::byte*>(rest.front().iov_base) + done;
  rest.front().iov_len -= done;
  own_ = std::move(rest);
  buffers_ = own_;
}

void DiskOperation::finish(int32_t result) {
  // A discard is advice: where it cannot be followed, the contents, which are undefined from now on, stay.
  if (kind_ == BlockRequest::Kind::discard && unsupported(result)) result = 0;
  auto* completion = completion_;
  pool_.give_back(*this);
  completion->complete(result);
}

DiskOperations::~DiskOperations() {
  assert(idle_.size() == all_.size());
}

void DiskOperations::cancel() {
  for (const auto& operation : all_) operation->cancel();
}

DiskOperation& DiskOperations::take() {
  if (idle_.empty()) {
    all_.push_back(std::make_unique<DiskOperation>(*this));
    return *all_.back();
  }
  auto* operation = idle_.back();
  idle_.pop_back();
  return *operation;
}

}  // namespace vmm::backend
