// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net_header.h"

namespace vmm::virtio {
namespace {

using backend::VnetHeader;

bool segmentation_negotiated(uint8_t gso_type, uint64_t features) {
  const auto has = [features](uint64_t feature) { return (features & feature) != 0; };
  if ((gso_type & VnetHeader::kGsoEcn) != 0 && !has(net_feature::kHostEcn)) return false;
  switch (gso_type & ~VnetHeader::kGsoEcn) {
    case VnetHeader::kGsoTcp4:
      return has(net_feature::kHostTso4);
    case VnetHeader::kGsoTcp6:
      return has(net_feature::kHostTso6);
    default:
      return false;
  }
}

}  // namespace

bool accept_header(VnetHeader& header, size_t length, uint64_t features) {
  constexpr size_t kChecksumBytes = 2;
  header.flags &= VnetHeader::kNeedsChecksum;
  header.buffers = 0;
  if (header.flags != 0) {
    if ((features & net_feature::kChecksum) == 0) return false;
    if (size_t{header.checksum_start} + header.checksum_offset + kChecksumBytes > length) return false;
  } else {
    header.checksum_start = 0;
    header.checksum_offset = 0;
  }
  if (header.gso_type == VnetHeader::kGsoNone) {
    header.gso_size = 0;
    header.header_length = 0;
    return true;
  }
  return segmentation_negotiated(header.gso_type, features) && header.flags != 0 && header.gso_size != 0 &&
         header.header_length <= length;
}

}  // namespace vmm::virtio
