// SPDX-License-Identifier: Apache-2.0
//
// What a driver asks of a block device (virtio 1.2, 5.2.6): a chain, parsed and checked before anything is
// done.
#pragma once

#include <cstdint>
#include <optional>

#include "devices/virtio/chain.h"
#include "vmm/core/result.h"

namespace vmm::virtio {

struct BlkRequest {
  enum class Kind : uint8_t { read, write, flush, get_id, discard, write_zeroes };
  Kind kind = Kind::read;
  bool may_unmap = false;  // write_zeroes
  uint64_t offset = 0;     // bytes; inside the disk with `length`
  uint64_t length = 0;     // bytes; read, write: a multiple of 512, and the size of the data in the chain
  size_t status_at = 0;    // where the status byte belongs, in the writable part
};

// What the device offers, and a request is measured by.
struct BlkLimits {
  uint64_t sectors = 0;  // of 512 bytes, as everything in the protocol
  bool read_only = false;
  bool can_discard = false;
  uint32_t max_discard_sectors = 0;
  uint32_t max_write_zeroes_sectors = 0;
};

enum class BlkFault : uint8_t {
  no_status,     // no writable byte to answer in: the one fault that cannot be reported to the driver
  bad_layout,    // header short, data in the wrong direction, not a multiple of its unit, or not of its size
  outside_disk,  // begins or ends behind the last sector
  too_long,      // more sectors than max_discard_sectors or max_write_zeroes_sectors
  read_only,     // would change a read-only disk
  unknown_type,  // a request type, or flag, that is not offered
};

// VIRTIO_BLK_S_* that a fault is answered with; none for no_status.
[[nodiscard]] std::optional<uint8_t> status_of(BlkFault fault);

// Where the data of a read or a write is: behind the header of the readable part, or at 0 of the writable
// part.
constexpr size_t kBlkHeaderSize = 16;

[[nodiscard]] tl::expected<BlkRequest, BlkFault> parse_blk_request(const Chain& chain,
                                                                   const BlkLimits& limits);

}  // namespace vmm::virtio
