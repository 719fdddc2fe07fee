// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace vmm::virtio {
namespace {

constexpr uint64_t bit(unsigned number) {
  return 1ULL << number;
}

constexpr size_t kNumbersPerTurn = 4096;  // page numbers worked on in a turn of the loop: 16 MiB of memory
constexpr uint32_t kReportsPerTurn = 4;   // chains
// Of a chain. Linux reports up to 32 blocks of 4 MiB at once. What goes beyond stays with the guest: a report
// is an offer.
constexpr uint64_t kMostReported = 128ULL << 20;
constexpr size_t kMostStatistics = 64;  // entries of one buffer that are looked at

// One entry of the statistics (5.5.6.4), as it lies in the buffer.
constexpr size_t kStatisticSize = sizeof(virtio_balloon_stat);
static_assert(kStatisticSize == 10);

}  // namespace

Balloon::Balloon(EventLoop& loop, const GuestMemory& memory, std::string name, Options options)
    : loop_(loop), memory_(memory), name_(std::move(name)), options_(options) {}

uint64_t Balloon::features() const {
  return bit(VIRTIO_BALLOON_F_STATS_VQ) | bit(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
         (options_.report_free_pages ? bit(VIRTIO_BALLOON_F_REPORTING) : 0);
}

// Queue 3 is FREE_PAGE_HINT's, queue 4 that of reporting (5.5.2). Linux instead numbers the queues that it
// uses without a gap: then the one after its last is that of reporting. Since there are no hints, both can be
// had.
Balloon::Role Balloon::role(uint16_t queue) const {
  const bool statistics = (features_ & bit(VIRTIO_BALLOON_F_STATS_VQ)) != 0;
  const bool reporting = (features_ & bit(VIRTIO_BALLOON_F_REPORTING)) != 0;
  if (queue == 0) return Role::inflate;
  if (queue == 1) return Role::deflate;
  if (queue == 2 && statistics) return Role::statistics;
  return reporting ? Role::reporting : Role::none;
}

void Balloon::set_target(uint64_t bytes) {
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  target_ = static_cast<uint32_t>(std::min(bytes / kPageSize, kMost));
  loop_.post([this] {
    if (driver_ != nullptr) driver_->notify_config();
  });
}

void Balloon::read_config(size_t offset, std::span<std::byte> out) {
  const std::array<uint32_t, 2> config{target_, actual_};
  std::memcpy(out.data(), std::as_bytes(std::span{config}).data() + offset, out.size());
}

// Only `actual` is the driver's to write (5.5.4), all of it at once; anything else is ignored.
void Balloon::write_config(size_t offset, std::span<const std::byte> in) {
  uint32_t pages = 0;
  if (offset != offsetof(virtio_balloon_config, actual) || in.size() != sizeof pages) return;
  std::memcpy(&pages, in.data(), sizeof pages);
  actual_ = pages;
}

void Balloon::start(uint64_t features, std::span<Queue> queues, Driver& driver) {
  features_ = features;
  queues_ = queues;
  driver_ = &driver;
  has_driver_ = true;
}

// Nothing is ever in flight on the host. The pages of a driver that is gone are its successor's to use.
void Balloon::stop(std::function<void()> done) {
  driver_ = nullptr;
  has_driver_ = false;
  actual_ = 0;
  inflation_.reset();
  statistics_.reset();
  asked_ = nullptr;
  done();
}

void Balloon::fail(std::string_view why) {
  auto* driver = std::exchange(driver_, nullptr);
  has_driver_ = false;
  asked_ = nullptr;
  driver->needs_reset(why);
}

void Balloon::handle_queue(uint16_t index) {
  if (driver_ == nullptr) return;
  const Role what = role(index);
  if (what == Role::inflate) return handle_inflation(index);
  if (what == Role::statistics) return handle_statistics(index);
  if (what == Role::none) return fail("a queue of a feature that was not negotiated");

  auto& queue = queues_[index];
  queue.disable_doorbell();
  uint32_t share = what == Role::reporting ? kReportsPerTurn : queue.size();
  while (share > 0) {
    auto popped = queue.pop();
    if (!popped) return fail(to_string(popped.error()));
    if (!*popped) {
      if (queue.enable_doorbell()) continue;
      return;
    }
    if (what == Role::reporting) report(**popped);
    queue.complete(std::move(**popped), 0);
    driver_->notify_used(index);
    --share;
  }
  driver_->handle_again(index);
}

// A request may be a list as long as a chain can be: it is worked off in pieces, a turn each.
void Balloon::handle_inflation(uint16_t index) {
  auto& queue = queues_[index];
  queue.disable_doorbell();
  for (size_t share = kNumbersPerTurn * sizeof(uint32_t); share > 0;) {
    if (!inflation_) {
      auto popped = queue.pop();
      if (!popped) return fail(to_string(popped.error()));
      if (!*popped) {
        if (queue.enable_doorbell()) continue;
        return;
      }
      inflation_ = Inflation{std::move(**popped), 0};
    }
    // A piece of a number at the end of a request is no number.
    const size_t whole = inflation_->chain.readable_size() & ~(sizeof(uint32_t) - 1);
    const size_t left = whole - inflation_->offset;
    const size_t bytes = std::min(share, left);
    give_back(*inflation_, bytes);
    inflation_->offset += bytes;
    share -= std::max(bytes, sizeof(uint32_t));  // an empty request has its price, too
    if (bytes < left) continue;
    queue.complete(std::move(inflation_->chain), 0);
    inflation_.reset();
    driver_->notify_used(index);
  }
  driver_->handle_again(index);
}

// The next `bytes` of a list of page numbers (5.5.6): runs of them, up or down, are given back as one range.
void Balloon::give_back(const Inflation& inflation, size_t bytes) {
  std::array<uint32_t, kNumbersPerTurn> numbers;
  const auto some = std::span{numbers}.first(bytes / sizeof(uint32_t));
  if (!inflation.chain.copy_in(inflation.offset, std::as_writable_bytes(some))) return;
  const auto at = [&](size_t index) { return int64_t{some[index]}; };
  for (size_t begin = 0; begin < some.size();) {
    size_t end = begin + 1;
    const int64_t step = end < some.size() && at(end) < at(begin) ? -1 : 1;
    while (end < some.size() && at(end) == at(end - 1) + step) ++end;
    discard(std::min(some[begin], some[end - 1]), end - begin);
    begin = end;
  }
}

void Balloon::discard(uint64_t first, uint64_t pages) {
  const auto slice = memory_.slice(Gpa{first * kPageSize}, pages * kPageSize);
  if (slice) {
    memory_.discard(*slice);
  } else if (pages > 1) {  // where RAM ends, or has a hole
    discard(first, pages / 2);
    discard(first + pages / 2, pages - pages / 2);
  } else if (complaints_.pass()) {
    log(LogLevel::warning, "{}: page number {:#x} is not RAM, ignored", name_, first);
  }
}

// Free page reporting (5.5.6.7): the buffers are the pages, and completing the chain makes them the driver's
// again.
void Balloon::report(const Chain& chain) {
  uint64_t left = kMostReported;
  for (const auto& pages : chain.writable()) {
    if (pages.size() > left) break;
    left -= pages.size();
    if (memory_.discard(pages)) reported_ += pages.size();
  }
}

void Balloon::handle_statistics(uint16_t index) {
  auto& queue = queues_[index];
  // The driver has one buffer. A second one while the first is held is against the rules, and just given
  // back, as often as a turn allows.
  for (uint32_t share = queue.size(); share > 0; --share) {
    auto popped = queue.pop();
    if (!popped) return fail(to_string(popped.error()));
    if (!*popped) {
      if (queue.enable_doorbell()) continue;
      return;
    }
    if (statistics_) {
      queue.complete(std::move(*statistics_), 0);
      driver_->notify_used(index);
    }
    statistics_ = std::move(**popped);
    if (!asked_) continue;
    Statistics told;
    for (size_t i = 0; i < kMostStatistics; ++i) {
      std::array<std::byte, kStatisticSize> entry;
      if (!statistics_->copy_in(i * kStatisticSize, entry)) break;
      virtio_balloon_stat statistic;
      std::memcpy(&statistic, entry.data(), sizeof statistic);
      if (statistic.tag < told.values.size()) told.values[statistic.tag] = uint64_t{statistic.val};
    }
    std::exchange(asked_, nullptr)(told);
  }
  driver_->handle_again(index);
}

void Balloon::ask_statistics(std::function<void(const std::optional<Statistics>&)> done) {
  constexpr uint16_t kStatisticsQueue = 2;
  if (driver_ == nullptr || !statistics_) return done(std::nullopt);
  asked_ = std::move(done);
  queues_[kStatisticsQueue].complete(std::move(*statistics_), 0);
  statistics_.reset();
  driver_->notify_used(kStatisticsQueue);
}

}  // namespace vmm::virtio
