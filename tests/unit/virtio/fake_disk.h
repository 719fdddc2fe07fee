// SPDX-License-Identifier: Apache-2.0
//
// A disk in memory that takes note of what it is asked, can fail, and can keep requests until the test lets
// them go.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "devices/backend/block.h"

namespace vmm::virtio {

class FakeDisk final : public backend::Block {
 public:
  using Kind = backend::BlockRequest::Kind;
  explicit FakeDisk(uint64_t size, bool read_only = false) : bytes_(size, '\0'), read_only_(read_only) {}

  uint64_t size() const override {
    const std::lock_guard lock{mutex_};
    return bytes_.size();
  }
  bool read_only() const override { return read_only_; }
  bool can_discard() const override { return !read_only_; }
  uint32_t block_size() const override { return 4096; }

  Result<void> resize(uint64_t bytes) override {
    const std::lock_guard lock{mutex_};
    bytes_.resize(bytes);
    return {};
  }
  Result<std::unique_ptr<backend::BlockChannel>> open_channel(EventLoop& loop) override {
    class Channel final : public backend::BlockChannel {
     public:
      Channel(FakeDisk& disk, EventLoop& loop) : disk_(disk), loop_(loop) {}
      void submit(const backend::BlockRequest& request, IoCompletion& completion) override {
        disk_.submit(loop_, request, completion);
      }

     private:
      FakeDisk& disk_;
      EventLoop& loop_;
    };
    return std::make_unique<Channel>(*this, loop);
  }
  void submit(EventLoop& loop, const backend::BlockRequest& request, IoCompletion& completion) {
    auto work = [this, request, &completion] { completion.complete(perform(request)); };
    if (!hold) return loop.post(std::move(work));
    ++held;
    held_.push_back(std::move(work));
  }
  // On the loop: performs what was held.
  void release() {
    hold = false;
    auto held_work = std::exchange(held_, {});
    for (const auto& work : held_work) work();
  }

  std::string bytes(size_t offset, size_t length) {
    const std::lock_guard lock{mutex_};
    return bytes_.substr(offset, length);
  }
  void put(size_t offset, std::string_view text) {
    const std::lock_guard lock{mutex_};
    bytes_.replace(offset, text.size(), text);
  }
  std::vector<Kind> kinds() {
    const std::lock_guard lock{mutex_};
    return kinds_;
  }

  std::atomic<int32_t> error{0};  // what every request is answered with, if not 0
  std::atomic<bool> hold{false};
  std::atomic<uint32_t> held{0};

 private:
  int32_t perform(const backend::BlockRequest& request) {
    const std::lock_guard lock{mutex_};
    kinds_.push_back(request.kind);
    if (error != 0) return error;
    if (request.offset > bytes_.size() || request.length > bytes_.size() - request.offset) return -ERANGE;
    auto* at = bytes_.data() + request.offset;
    if (request.kind == Kind::write_zeroes) std::memset(at, 0, request.length);
    if (request.kind == Kind::discard) std::memset(at, 'D', request.length);
    for (const auto& buffer : request.buffers) {
      if (request.kind == Kind::read) {
        std::memcpy(buffer.iov_base, at, buffer.iov_len);
      } else {
        std::memcpy(at, buffer.iov_base, buffer.iov_len);
      }
      at += buffer.iov_len;
    }
    return 0;
  }

  mutable std::mutex mutex_;  // the test looks while the loop works
  std::string bytes_;
  std::vector<Kind> kinds_;
  const bool read_only_;
  std::vector<std::function<void()>> held_;  // the loop's
};

}  // namespace vmm::virtio
