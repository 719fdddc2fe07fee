// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <utility>

namespace vmm::virtio {
namespace {

constexpr uint64_t kSector = 512;

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
  explicit Ticket(Blk& blk) : blk_(blk) {}
  void complete(int32_t result) override {
    const bool changes =
        request.kind == BlkRequest::Kind::write || request.kind == BlkRequest::Kind::write_zeroes;
    if (result == 0 && changes && blk_.write_through_ && !std::exchange(flushing, true))
      return blk_.flush_behind(*this);
    blk_.finish(*this, result);
  }

  uint16_t queue = 0;
  std::optional<Chain> chain;
  BlkRequest request;
  std::vector<iovec> buffers;
  bool flushing = false;  // written, and now being flushed

 private:
  Blk& blk_;
};

Blk::Blk(EventLoop& loop, backend::Block& disk, std::string name, std::string_view serial)
    : loop_(loop), disk_(disk), name_(std::move(name)) {
  std::memcpy(id_.data(), serial.data(), std::min(serial.size(), id_.size()));
  limits_ = {.sectors = disk.size() / kSector,
             .read_only = disk.read_only(),
             .can_discard = disk.can_discard(),
             .max_discard_sectors = kMaxDiscardSectors,
             .max_write_zeroes_sectors = kMaxWriteZeroesSectors};
  const uint32_t physical = disk.block_size();
  assert(std::has_single_bit(physical) && physical >= kSector);
  config_.capacity = limits_.sectors;
  config_.seg_max = kMaxSegments;
  config_.blk_size = kSector;
  config_.physical_block_exp = static_cast<uint8_t>(std::countr_zero(physical / kSector));
  config_.min_io_size = static_cast<uint16_t>(physical / kSector);
  config_.num_queues = kQueueSizes.size();
  config_.max_discard_sectors = kMaxDiscardSectors;
  config_.max_discard_seg = 1;
  config_.discard_sector_alignment = physical / kSector;
  config_.max_write_zeroes_sectors = kMaxWriteZeroesSectors;
  config_.max_write_zeroes_seg = 1;
  config_.write_zeroes_may_unmap = limits_.can_discard ? 1 : 0;
}

Blk::~Blk() {
  assert(idle_.size() == tickets_.size());
}

uint64_t Blk::features() const {
  uint64_t features = bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) | bit(VIRTIO_BLK_F_TOPOLOGY) |
                      bit(VIRTIO_BLK_F_FLUSH);
  if (limits_.read_only) return features | bit(VIRTIO_BLK_F_RO);
  features |= bit(VIRTIO_BLK_F_WRITE_ZEROES);
  if (limits_.can_discard) features |= bit(VIRTIO_BLK_F_DISCARD);
  return features;
}

size_t Blk::config_size() const {
  return kConfigSize;
}

void Blk::read_config(size_t offset, std::span<std::byte> out) {
  std::memcpy(out.data(), reinterpret_cast<const std::byte*>(&config_) + offset, out.size());
}

void Blk::write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) {}

void Blk::start(uint64_t features, std::span<Queue> queues, Driver& driver) {
  queues_ = queues;
  driver_ = &driver;
  write_through_ = (features & bit(VIRTIO_BLK_F_FLUSH)) == 0;
  broken_ = false;
}

void Blk::stop(std::function<void()> done) {
  if (idle_.size() == tickets_.size()) return done();
  stopped_ = std::move(done);
}

void Blk::handle_queue(uint16_t index) {
  auto& queue = queues_[index];
  queue.disable_doorbell();
  for (uint32_t share = queue.size(); share > 0 && !broken_; --share) {
    auto popped = queue.pop();
    if (!popped) {
      broken_ = true;
      return driver_->needs_reset(to_string(popped.error()));
    }
    if (*popped) {
      begin(index, std::move(**popped));
    } else if (!queue.enable_doorbell()) {
      return;
    }
  }
  if (!broken_) driver_->handle_again(index);
}

void Blk::begin(uint16_t queue, Chain chain) {
  const auto parsed = parse_blk_request(chain, limits_);
  if (!parsed) {
    const auto status = status_of(parsed.error());
    if (status) return answer(queue, std::move(chain), nullptr, *status);
    broken_ = true;
    return driver_->needs_reset("a request without room for its status");
  }
  const auto& request = *parsed;
  const bool reads = request.kind == BlkRequest::Kind::read;
  const bool writes = request.kind == BlkRequest::Kind::write;
  const bool nothing_to_move = (reads || writes) && request.length == 0;
  if (request.kind == BlkRequest::Kind::get_id || nothing_to_move) {
    if (!nothing_to_move) copy_out(chain, 0, id_);
    return answer(queue, std::move(chain), &request, VIRTIO_BLK_S_OK);
  }

  auto& ticket = take_ticket();
  ticket.queue = queue;
  ticket.request = request;
  ticket.flushing = false;
  ticket.buffers.clear();
  [[maybe_unused]] bool there = true;
  if (reads) there = chain.writable_iov(0, request.length, ticket.buffers);
  if (writes) there = chain.readable_iov(kBlkHeaderSize, request.length, ticket.buffers);
  assert(there);
  ticket.chain = std::move(chain);
  submit(ticket);
}

void Blk::submit(Ticket& ticket) {
  const auto& request = ticket.request;
  disk_.submit(loop_,
               {.kind = backend_kind(request.kind),
                .may_unmap = request.may_unmap,
                .offset = request.offset,
                .length = request.length,
                .buffers = ticket.buffers},
               ticket);
}

void Blk::flush_behind(Ticket& ticket) {
  disk_.submit(loop_, {.kind = backend::BlockRequest::Kind::flush}, ticket);
}

void Blk::finish(Ticket& ticket, int32_t result) {
  if (result != 0 && errors_logged_.pass()) {
    log(LogLevel::error, "{}: {} of {} bytes at byte {}: {}", name_, to_string(ticket.request.kind),
        ticket.request.length, ticket.request.offset, std::generic_category().message(-result));
  }
  idle_.push_back(&ticket);
  auto chain = std::move(*std::exchange(ticket.chain, std::nullopt));
  answer(ticket.queue, std::move(chain), &ticket.request, result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
  if (stopped_ && idle_.size() == tickets_.size()) std::exchange(stopped_, nullptr)();
}

void Blk::answer(uint16_t queue, Chain chain, const BlkRequest* request, uint8_t status) {
  const bool good = status == VIRTIO_BLK_S_OK;
  if (!good) {
    ++counts_.errors;
  } else if (request != nullptr) {
    count(*request);
  }
  // After a fault the rings are not to be touched; the driver will find its request gone with the reset.
  if (broken_) return;
  copy_out(chain, chain.writable_size() - 1, std::array{std::byte{status}});
  // Where the data was not written, the status byte is all that was.
  const auto written = good ? static_cast<uint32_t>(chain.writable_size()) : 1U;
  queues_[queue].complete(std::move(chain), written);
  driver_->notify_used(queue);
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

Blk::Ticket& Blk::take_ticket() {
  if (idle_.empty()) {
    tickets_.push_back(std::make_unique<Ticket>(*this));
    return *tickets_.back();
  }
  auto* ticket = idle_.back();
  idle_.pop_back();
  return *ticket;
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
