// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/checksum.h"

#include <cstdint>
#include <cstring>

namespace vmm::backend {
namespace {

// One's complement sum in the host's byte order, folded to 16 bits: the order changes the bytes of the result
// and nothing else (RFC 1071, 2 (B)). Words of 32 bits are summed in 64, which 2^32 of them cannot overflow.
uint16_t sum_of(std::span<const std::byte> bytes) {
  uint64_t sum = 0;
  while (bytes.size() >= sizeof(uint32_t)) {
    uint32_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    sum += word;
    bytes = bytes.subspan(sizeof word);
  }
  uint32_t rest = 0;  // what is missing counts as zero
  if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
  sum += rest;
  while (sum > UINT16_MAX) sum = (sum & UINT16_MAX) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

}  // namespace

bool complete_checksum(std::span<std::byte> frame, size_t start, size_t offset) {
  if (start > frame.size() || offset > frame.size() - start) return false;
  const auto covered = frame.subspan(start);
  uint16_t checksum = 0;
  if (covered.size() - offset < sizeof checksum) return false;
  checksum = static_cast<uint16_t>(~sum_of(covered));
  if (checksum == 0) checksum = UINT16_MAX;  // the other zero: 0 is UDP's word for "none"
  std::memcpy(covered.data() + offset, &checksum, sizeof checksum);
  return true;
}

}  // namespace vmm::backend
