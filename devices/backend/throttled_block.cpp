// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/throttled_block.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <deque>
#include <optional>
#include <utility>

namespace vmm::backend {

class ThrottledBlock::Channel final : public BlockChannel {
 public:
  static Result<std::unique_ptr<BlockChannel>> create(ThrottledBlock& disk, EventLoop& loop) {
    VMM_TRY_ASSIGN(auto inner, disk.disk_->open_channel(loop));
    auto channel = std::make_unique<Channel>(disk, std::move(inner));
    VMM_TRY_ASSIGN(channel->timer_, Timer::create(loop, [at = channel.get()] { at->proceed(); }));
    return channel;
  }
  Channel(ThrottledBlock& disk, std::unique_ptr<BlockChannel> inner)
      : disk_(disk), inner_(std::move(inner)) {}
  ~Channel() override { assert(waiting_.empty()); }

  void submit(const BlockRequest& request, IoCompletion& completion) override {
    if (request.kind == BlockRequest::Kind::flush) return inner_->submit(request, completion);
    waiting_.push_back({request, &completion});
    if (waiting_.size() == 1) proceed();
  }

  void cancel() override {
    timer_->disarm();
    for (const auto& one : std::exchange(waiting_, {})) one.completion->complete(-ECANCELED);
    inner_->cancel();
  }

 private:
  struct Waiting {
    BlockRequest request;
    IoCompletion* completion;
  };

  void proceed() {
    while (!waiting_.empty()) {
      const auto& first = waiting_.front();
      const auto delay = disk_.admit(first.request, Clock::now());
      if (delay.count() > 0) return timer_->arm(delay);
      inner_->submit(first.request, *first.completion);
      waiting_.pop_front();
    }
  }

  ThrottledBlock& disk_;
  const std::unique_ptr<BlockChannel> inner_;
  std::deque<Waiting> waiting_;  // in order; the first of them for the timer
  std::optional<Timer> timer_;
};

Result<std::unique_ptr<BlockChannel>> ThrottledBlock::open_channel(EventLoop& loop) {
  return Channel::create(*this, loop);
}

ThrottledBlock::Clock::duration ThrottledBlock::admit(const BlockRequest& request, Clock::time_point now) {
  const std::lock_guard lock{mutex_};
  const auto delay = std::max(bytes_.delay(now), requests_.delay(now));
  if (delay.count() > 0) return delay;
  const bool moves = request.kind == BlockRequest::Kind::read || request.kind == BlockRequest::Kind::write;
  if (moves) bytes_.take(request.length, now);
  requests_.take(1, now);
  return {};
}

}  // namespace vmm::backend
