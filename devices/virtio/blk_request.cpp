// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk_request.h"

#include <linux/virtio_blk.h>

#include <span>

namespace vmm::virtio {
namespace {

constexpr uint64_t kSector = 512;

static_assert(sizeof(virtio_blk_outhdr) == kBlkHeaderSize);
static_assert(sizeof(virtio_blk_discard_write_zeroes) == 16);

template <typename T>
std::optional<T> copy_from(const Chain& chain, size_t offset) {
  T value{};
  if (!chain.copy_in(offset, std::as_writable_bytes(std::span{&value, 1}))) return std::nullopt;
  return value;
}

// In sectors, so that no sum or product of what the driver says can wrap.
bool inside(const BlkLimits& limits, uint64_t sector, uint64_t count) {
  return sector <= limits.sectors && count <= limits.sectors - sector;
}

tl::expected<BlkRequest, BlkFault> transfer(BlkRequest request, uint64_t sector, uint64_t length,
                                            const BlkLimits& limits) {
  if (length % kSector != 0) return tl::unexpected(BlkFault::bad_layout);
  if (!inside(limits, sector, length / kSector)) return tl::unexpected(BlkFault::outside_disk);
  request.offset = sector * kSector;
  request.length = length;
  return request;
}

// Discard and write zeroes take one segment: max_discard_seg and max_write_zeroes_seg are 1.
tl::expected<BlkRequest, BlkFault> segment(BlkRequest request, const Chain& chain, const BlkLimits& limits) {
  using Segment = virtio_blk_discard_write_zeroes;
  const auto at = copy_from<Segment>(chain, kBlkHeaderSize);
  if (!at || chain.readable_size() != kBlkHeaderSize + sizeof(Segment))
    return tl::unexpected(BlkFault::bad_layout);
  const bool zeroes = request.kind == BlkRequest::Kind::write_zeroes;
  // 5.2.6.2: an unknown flag, or unmap on a discard, is unsupported.
  const uint32_t known = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
  if ((at->flags & ~known) != 0) return tl::unexpected(BlkFault::unknown_type);
  if (at->num_sectors == 0) return tl::unexpected(BlkFault::bad_layout);
  const uint32_t most = zeroes ? limits.max_write_zeroes_sectors : limits.max_discard_sectors;
  if (at->num_sectors > most) return tl::unexpected(BlkFault::too_long);
  if (!inside(limits, at->sector, at->num_sectors)) return tl::unexpected(BlkFault::outside_disk);
  request.offset = at->sector * kSector;
  request.length = at->num_sectors * kSector;
  request.may_unmap = at->flags != 0;
  return request;
}

}  // namespace

std::optional<uint8_t> status_of(BlkFault fault) {
  switch (fault) {
    case BlkFault::no_status:
      return std::nullopt;
    case BlkFault::unknown_type:
      return VIRTIO_BLK_S_UNSUPP;
    case BlkFault::bad_layout:
    case BlkFault::outside_disk:
    case BlkFault::too_long:
    case BlkFault::read_only:
      return VIRTIO_BLK_S_IOERR;
  }
  return VIRTIO_BLK_S_IOERR;
}

tl::expected<BlkRequest, BlkFault> parse_blk_request(const Chain& chain, const BlkLimits& limits) {
  if (chain.writable_size() == 0) return tl::unexpected(BlkFault::no_status);
  const auto header = copy_from<virtio_blk_outhdr>(chain, 0);
  if (!header) return tl::unexpected(BlkFault::bad_layout);

  BlkRequest request{.status_at = chain.writable_size() - 1};
  const uint64_t readable = chain.readable_size() - kBlkHeaderSize;
  const uint64_t writable = request.status_at;
  switch (header->type) {
    case VIRTIO_BLK_T_IN:
      if (readable != 0) return tl::unexpected(BlkFault::bad_layout);
      request.kind = BlkRequest::Kind::read;
      return transfer(request, header->sector, writable, limits);
    case VIRTIO_BLK_T_OUT:
      if (writable != 0) return tl::unexpected(BlkFault::bad_layout);
      if (limits.read_only) return tl::unexpected(BlkFault::read_only);
      request.kind = BlkRequest::Kind::write;
      return transfer(request, header->sector, readable, limits);
    case VIRTIO_BLK_T_FLUSH:
      request.kind = BlkRequest::Kind::flush;
      return request;
    case VIRTIO_BLK_T_GET_ID:
      if (writable != VIRTIO_BLK_ID_BYTES) return tl::unexpected(BlkFault::bad_layout);
      request.kind = BlkRequest::Kind::get_id;
      return request;
    case VIRTIO_BLK_T_DISCARD:
      if (limits.read_only) return tl::unexpected(BlkFault::read_only);
      if (!limits.can_discard) return tl::unexpected(BlkFault::unknown_type);
      request.kind = BlkRequest::Kind::discard;
      return segment(request, chain, limits);
    case VIRTIO_BLK_T_WRITE_ZEROES:
      if (limits.read_only) return tl::unexpected(BlkFault::read_only);
      request.kind = BlkRequest::Kind::write_zeroes;
      return segment(request, chain, limits);
    default:
      return tl::unexpected(BlkFault::unknown_type);
  }
}

}  // namespace vmm::virtio
