// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/throttled_block.h"

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

  // Those that a request moves.
  static uint64_t bytes_of(const BlockRequest& request) {
    using Kind = BlockRequest::Kind;
    const bool moves = request.kind == Kind::read || request.kind == Kind::write ||
                       request.kind == Kind::write_zeroes;  // which are written where they cannot be left out
    return moves ? request.length : 0;
  }

  void proceed() {
    while (!waiting_.empty()) {
      const auto& first = waiting_.front();
      const auto now = RateLimit::Clock::now();
      const auto delay = disk_.limit_.delay(now);
      if (delay.count() > 0) return timer_->arm(delay);
      disk_.limit_.take(bytes_of(first.request), now);
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

}  // namespace vmm::backend
