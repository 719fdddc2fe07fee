// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

namespace vmm::virtio {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint16_t kQueueSize = 256;

// Data segments of a request. With header and status they fit a queue of half the offered size, too, which is
// what a driver falls back to when it is short of contiguous memory.
constexpr uint32_t kMaxSegments = 126;
// A reset waits for what is in flight; these bound how much that is where zeros have to be written.
constexpr uint32_t kMaxDiscardSectors = (1U << 30) / kSector;
constexpr uint32_t kMaxWriteZeroesSectors = (32U << 20) / kSector;

// Up to here the configuration belongs to features that we offer.
constexpr size_t kConfigSize = offsetof(virtio_blk_config, unused1) + sizeof(virtio_blk_config::unused1);

constexpr uint64_t bit(unsigned feature) {
  return 1ULL << feature;
}

backend::BlockRequest::Kind backend_kind(BlkRequest::Kind kind) {
  using From = BlkRequest::Kind;
  using To = backend::BlockRequest::Kind;
  switch (kind) {
    case From::read:
      return To::read;
    case From::write:
      return To::write;
    case From::discard:
      return To::discard;
    case From::write_zeroes:
      return To::write_zeroes;
    case From::flush:
    case From::get_id:
      break;
  }
  return To::flush;
}

std::string_view to_string(BlkRequest::Kind kind) {
  switch (kind) {
    case BlkRequest::Kind::read:
      return "read";
    case BlkRequest::Kind::write:
      return "write";
    case BlkRequest::Kind::flush:
      return "flush";
    case BlkRequest::Kind::get_id:
      return "get-id";
    case BlkRequest::Kind::discard:
      return "discard";
    case BlkRequest::Kind::write_zeroes:
      return "write-zeroes";
  }
  return "request";
}

// Into room that parsing has found to be there.
void copy_out(const Chain& chain, size_t offset, std::span<const std::byte> bytes) {
  [[maybe_unused]] const bool fits = chain.copy_out(offset, bytes);
  assert(fits);
}

}  // namespace

// A request on its way through the backend.
class Blk::Ticket final : public IoCompletion {
 public:
  explicit Ticket(Lane& lane) : lane_(lane) {}
  void complete(int32_t result) override;

  std::optional<Chain> chain;
  BlkRequest request;
  std::vector<iovec> buffers;
  bool flushing = false;  // written, and now being flushed

 private:
  Lane& lane_;
};

// One queue, and the requests that came through it. Everything on the thread of its loop.
class Blk::Lane final : public Busy {
 public:
  Lane(Blk& blk, uint16_t index, EventLoop& loop, std::unique_ptr<backend::BlockChannel> channel)
      : blk_(blk), index_(index), loop_(loop), channel_(std::move(channel)) {}
  ~Lane() override { assert(quiet()); }

  [[nodiscard]] EventLoop& loop() { return loop_; }
  void start(Queue& queue) { queue_ = &queue; }  // before the first handle()
  void handle();
  void stop(std::function<void()> done);

  void end_turn() override;
  bool look() override { return take(); }
  bool rest() override;

 private:
  friend class Ticket;
  [[nodiscard]] bool quiet() const { return idle_.size() == tickets_.size(); }
  bool take();
  void fail(std::string_view why);
  void begin(Chain chain);
  void flush_behind(Ticket& ticket);
  void finish(Ticket& ticket, int32_t result);
  void answer(Chain chain, const BlkRequest* request, uint8_t status);
  Ticket& take_ticket();

  Blk& blk_;
  const uint16_t index_;
  EventLoop& loop_;
  const std::unique_ptr<backend::BlockChannel> channel_;
  Queue* queue_ = nullptr;
  bool staged_ = false;            // completions that are not published yet
  std::function<void()> stopped_;  // what stop() left, while requests are in flight
  std::vector<std::unique_ptr<Ticket>> tickets_;
  std::vector<Ticket*> idle_;
};

void Blk::Ticket::complete(int32_t result) {
  const bool changes =
      request.kind == BlkRequest::Kind::write || request.kind == BlkRequest::Kind::write_zeroes;
  if (result == 0 && changes && lane_.blk_.write_through_ && !std::exchange(flushing, true))
    return lane_.flush_behind(*this);
  lane_.finish(*this, result);
}

Result<std::unique_ptr<Blk>> Blk::create(std::span<EventLoop* const> loops, backend::Block& disk,
                                         std::string name, std::string_view serial) {
  assert(!loops.empty() && loops.size() <= kMaxQueues);
  std::unique_ptr<Blk> blk{new Blk{disk, loops.size(), std::move(name), serial}};
  for (auto* loop : loops) {
    VMM_TRY_ASSIGN(auto channel, disk.open_channel(*loop));
    const auto index = static_cast<uint16_t>(blk->lanes_.size());
    blk->lanes_.push_back(std::make_unique<Lane>(*blk, index, *loop, std::move(channel)));
  }
  return blk;
}

Blk::Blk(backend::Block& disk, size_t queues, std::string name, std::string_view serial)
    : disk_(disk), name_(std::move(name)), queue_sizes_(queues, kQueueSize) {
  std::memcpy(id_.data(), serial.data(), std::min(serial.size(), id_.size()));
  limits_ = {.sectors = 0,
             .read_only = disk.read_only(),
             .can_discard = disk.can_discard(),
             .max_discard_sectors = kMaxDiscardSectors,
             .max_write_zeroes_sectors = kMaxWriteZeroesSectors};
  const uint32_t logical = disk.sector_size();
  const uint32_t physical = disk.block_size();
  assert(std::has_single_bit(logical) && logical >= kSector);
  assert(std::has_single_bit(physical) && physical >= logical);
  config_.capacity = disk.size() / kSector;
  config_.seg_max = kMaxSegments;
  config_.blk_size = logical;  // the unit of what follows (5.2.4)
  config_.physical_block_exp = static_cast<uint8_t>(std::countr_zero(physical / logical));
  config_.min_io_size = static_cast<uint16_t>(physical / logical);
  config_.num_queues = static_cast<uint16_t>(queues);
  config_.max_discard_sectors = kMaxDiscardSectors;
  config_.max_discard_seg = 1;
  config_.discard_sector_alignment = physical / kSector;
  config_.max_write_zeroes_sectors = kMaxWriteZeroesSectors;
  config_.max_write_zeroes_seg = 1;
  config_.write_zeroes_may_unmap = limits_.can_discard ? 1 : 0;
}

Blk::~Blk() = default;

EventLoop& Blk::loop() {
  return lanes_.front()->loop();
}

EventLoop& Blk::queue_loop(uint16_t queue) {
  return lanes_[queue]->loop();
}

uint64_t Blk::features() const {
  uint64_t features = bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) | bit(VIRTIO_BLK_F_TOPOLOGY) |
                      bit(VIRTIO_BLK_F_FLUSH);
  if (lanes_.size() > 1) features |= bit(VIRTIO_BLK_F_MQ);
  if (limits_.read_only) return features | bit(VIRTIO_BLK_F_RO);
  features |= bit(VIRTIO_BLK_F_WRITE_ZEROES);
  if (limits_.can_discard) features |= bit(VIRTIO_BLK_F_DISCARD);
  return features;
}

size_t Blk::config_size() const {
  return kConfigSize;
}

void Blk::read_config(size_t offset, std::span<std::byte> out) {
  const std::lock_guard lock{config_mutex_};
  std::memcpy(out.data(), reinterpret_cast<const std::byte*>(&config_) + offset, out.size());
}

void Blk::write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) {}

void Blk::start(uint64_t features, std::span<Queue> queues, Driver& driver) {
  driver_ = &driver;
  write_through_ = (features & bit(VIRTIO_BLK_F_FLUSH)) == 0;
  broken_ = false;
  for (size_t i = 0; i < lanes_.size(); ++i) lanes_[i]->start(queues[i]);
}

void Blk::handle_queue(uint16_t index) {
  lanes_[index]->handle();
}

void Blk::stop(std::function<void()> done) {
  struct Round {
    std::atomic<size_t> left;
    std::function<void()> done;
  };
  const auto round = std::make_shared<Round>(lanes_.size(), [this, done = std::move(done)] {
    driver_ = nullptr;
    done();
  });
  const auto lane_stopped = [round, &loop = loop()] {
    if (--round->left == 0) loop.run_or_post([round] { round->done(); });
  };
  for (const auto& lane : lanes_) {
    lane->loop().run_or_post([&lane, lane_stopped] { lane->stop(lane_stopped); });
  }
}

void Blk::Lane::stop(std::function<void()> done) {
  stopped_ = [this, done = std::move(done)] {
    end_turn();
    loop_.done_with(*this);
    done();
  };
  channel_->cancel();  // the last of those calls stopped_
  if (stopped_ && quiet()) std::exchange(stopped_, nullptr)();
}

Result<void> Blk::resize(uint64_t bytes) {
  VMM_TRY(disk_.resize(bytes));
  loop().post([this] {
    // One step for whoever reads: a driver that saw half of the new capacity sees a new generation, too.
    const std::lock_guard lock{config_mutex_};
    config_.capacity = disk_.size() / kSector;
    if (driver_ != nullptr && !broken_) driver_->notify_config();
  });
  return {};
}

void Blk::Lane::handle() {
  queue_->disable_doorbell();
  take();
  loop_.keep_busy(*this);  // until rest() lets the driver ring again
}

// What the driver has added. True if there was anything.
bool Blk::Lane::take() {
  bool some = false;
  // A share, so that a busy driver does not keep the loop from its other work: it is soon asked again.
  for (uint32_t share = queue_->size(); share > 0 && !blk_.broken_ && !stopped_; --share) {
    auto popped = queue_->pop();
    if (!popped) {
      fail(to_string(popped.error()));
      break;
    }
    if (!*popped) break;
    some = true;
    begin(std::move(**popped));
  }
  if (some) loop_.keep_busy(*this);
  return some;
}

bool Blk::Lane::rest() {
  if (blk_.broken_ || stopped_ || !queue_->enable_doorbell()) return false;
  queue_->disable_doorbell();
  return take();
}

void Blk::Lane::end_turn() {
  if (!std::exchange(staged_, false) || blk_.broken_) return;
  queue_->publish();
  blk_.driver_->notify_used(index_);
}

void Blk::Lane::fail(std::string_view why) {
  blk_.broken_ = true;
  blk_.driver_->needs_reset(why);
}

void Blk::Lane::begin(Chain chain) {
  auto limits = blk_.limits_;
  limits.sectors = blk_.disk_.size() / kSector;
  const auto parsed = parse_blk_request(chain, limits);
  if (!parsed) {
    const auto status = status_of(parsed.error());
    if (status) return answer(std::move(chain), nullptr, *status);
    return fail("a request without room for its status");
  }
  const auto& request = *parsed;
  const bool reads = request.kind == BlkRequest::Kind::read;
  const bool writes = request.kind == BlkRequest::Kind::write;
  const bool nothing_to_move = (reads || writes) && request.length == 0;
  if (request.kind == BlkRequest::Kind::get_id || nothing_to_move) {
    if (!nothing_to_move) copy_out(chain, 0, blk_.id_);
    return answer(std::move(chain), &request, VIRTIO_BLK_S_OK);
  }

  auto& ticket = take_ticket();
  ticket.request = request;
  ticket.flushing = false;
  ticket.buffers.clear();
  [[maybe_unused]] bool there = true;
  if (reads) there = chain.writable_iov(0, request.length, ticket.buffers);
  if (writes) there = chain.readable_iov(kBlkHeaderSize, request.length, ticket.buffers);
  assert(there);
  ticket.chain = std::move(chain);
  channel_->submit({.kind = backend_kind(request.kind),
                    .may_unmap = request.may_unmap,
                    .offset = request.offset,
                    .length = request.length,
                    .buffers = ticket.buffers},
                   ticket);
}

void Blk::Lane::flush_behind(Ticket& ticket) {
  channel_->submit({.kind = backend::BlockRequest::Kind::flush}, ticket);
}

void Blk::Lane::finish(Ticket& ticket, int32_t result) {
  if (result != 0 && !stopped_ && blk_.errors_logged_.pass()) {
    log(LogLevel::error, "{}: {} of {} bytes at byte {}: {}", blk_.name_, to_string(ticket.request.kind),
        ticket.request.length, ticket.request.offset, std::generic_category().message(-result));
  }
  idle_.push_back(&ticket);
  auto chain = std::move(*std::exchange(ticket.chain, std::nullopt));
  answer(std::move(chain), &ticket.request, result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
  if (stopped_ && quiet()) std::exchange(stopped_, nullptr)();
}

void Blk::Lane::answer(Chain chain, const BlkRequest* request, uint8_t status) {
  const bool good = status == VIRTIO_BLK_S_OK;
  if (!good) {
    ++blk_.counts_.errors;
  } else if (request != nullptr) {
    blk_.count(*request);
  }
  // After a fault the rings are not to be touched; the driver will find its request gone with the reset.
  if (blk_.broken_) return;
  copy_out(chain, chain.writable_size() - 1, std::array{std::byte{status}});
  // Where the data was not written, the status byte is all that was.
  const auto written = good ? static_cast<uint32_t>(chain.writable_size()) : 1U;
  queue_->stage(std::move(chain), written);
  staged_ = true;
  loop_.keep_busy(*this);
}

Blk::Ticket& Blk::Lane::take_ticket() {
  if (idle_.empty()) {
    tickets_.push_back(std::make_unique<Ticket>(*this));
    return *tickets_.back();
  }
  auto* ticket = idle_.back();
  idle_.pop_back();
  return *ticket;
}

void Blk::count(const BlkRequest& request) {
  switch (request.kind) {
    case BlkRequest::Kind::read:
      ++counts_.reads;
      counts_.bytes_read += request.length;
      break;
    case BlkRequest::Kind::write:
    case BlkRequest::Kind::write_zeroes:
      ++counts_.writes;
      counts_.bytes_written += request.length;
      break;
    case BlkRequest::Kind::flush:
      ++counts_.flushes;
      break;
    case BlkRequest::Kind::discard:
      ++counts_.discards;
      break;
    case BlkRequest::Kind::get_id:
      break;
  }
}

Blk::Counts Blk::counts() const {
  return {.reads = counts_.reads,
          .writes = counts_.writes,
          .flushes = counts_.flushes,
          .discards = counts_.discards,
          .bytes_read = counts_.bytes_read,
          .bytes_written = counts_.bytes_written,
          .errors = counts_.errors};
}

}  // namespace vmm::virtio
