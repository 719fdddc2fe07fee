// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net_header.h"

#include <linux/if_tun.h>

namespace vmm::virtio {
namespace {

using backend::VnetHeader;

struct Offload {
  uint32_t backend;  // TUN_F_*
  uint64_t host;     // what the driver may ask for of sent frames
  uint64_t guest;    // what it accepts of received ones
};
constexpr Offload kOffloads[] = {
    {TUN_F_CSUM, net_feature::kChecksum, net_feature::kGuestChecksum},
    {TUN_F_TSO4, net_feature::kHostTso4, net_feature::kGuestTso4},
    {TUN_F_TSO6, net_feature::kHostTso6, net_feature::kGuestTso6},
    {TUN_F_TSO_ECN, net_feature::kHostEcn, net_feature::kGuestEcn},
};

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

uint64_t net_features(uint32_t send_offloads, uint32_t receive_offloads) {
  uint64_t features = net_feature::kMac | net_feature::kMtu | net_feature::kStatus;
  for (const auto& offload : kOffloads) {
    if ((send_offloads & offload.backend) != 0) features |= offload.host;
    if ((receive_offloads & offload.backend) != 0) features |= offload.guest;
  }
  return features;
}

uint32_t accepted_offloads(uint64_t features) {
  uint32_t offloads = 0;
  if ((features & net_feature::kGuestChecksum) == 0) return offloads;
  for (const auto& offload : kOffloads) {
    if ((features & offload.guest) != 0) offloads |= offload.backend;
  }
  // ECN is a property of TCP's segments (5.1.3.1); a tap refuses it alone, and everything with it.
  if ((offloads & (TUN_F_TSO4 | TUN_F_TSO6)) == 0) offloads &= ~uint32_t{TUN_F_TSO_ECN};
  return offloads;
}

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
