// SPDX-License-Identifier: Apache-2.0
//
// The wire format of the network device (virtio 1.2, 5.1): its feature bits and how they stand for offloads,
// its configuration space, and the check of what a driver asks for with a frame.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/backend/vnet_header.h"

namespace vmm::virtio {

// Feature bits (5.1.3). <linux/virtio_net.h> is not C++.
namespace net_feature {
inline constexpr uint64_t kChecksum = 1ULL << 0;  // the device completes checksums of sent frames
inline constexpr uint64_t kGuestChecksum = 1ULL << 1;
inline constexpr uint64_t kMtu = 1ULL << 3;
inline constexpr uint64_t kMac = 1ULL << 5;
inline constexpr uint64_t kGuestTso4 = 1ULL << 7;
inline constexpr uint64_t kGuestTso6 = 1ULL << 8;
inline constexpr uint64_t kGuestEcn = 1ULL << 9;
inline constexpr uint64_t kHostTso4 = 1ULL << 11;
inline constexpr uint64_t kHostTso6 = 1ULL << 12;
inline constexpr uint64_t kHostEcn = 1ULL << 13;
inline constexpr uint64_t kMergeable = 1ULL << 15;
inline constexpr uint64_t kStatus = 1ULL << 16;
inline constexpr uint64_t kControlQueue = 1ULL << 17;
inline constexpr uint64_t kMultiQueue = 1ULL << 22;
}  // namespace net_feature

// Configuration space (5.1.4), as far as the features offered reach.
struct NetConfig {
  static constexpr uint16_t kLinkUp = 1;  // status

  uint8_t mac[6] = {};
  uint16_t status = 0;
  uint16_t queue_pairs = 1;
  uint16_t mtu = 0;
};
static_assert(sizeof(NetConfig) == 12);

// What a driver says on the control queue (5.1.6.5), and the byte that it is answered with.
struct NetCommand {
  static constexpr uint8_t kMultiQueue = 4;  // of_class (5.1.6.5.5)
  static constexpr uint8_t kSetPairs = 0;    // command: how many pairs are used from here on
  static constexpr uint8_t kOk = 0;
  static constexpr uint8_t kError = 1;

  uint8_t of_class = 0;
  uint8_t command = 0;
  uint8_t pairs[2] = {};  // little-endian
};
static_assert(sizeof(NetCommand) == 4);

inline constexpr size_t kShortestFrame = 14;  // an Ethernet header
inline constexpr size_t kLongestFrame =
    65550;  // what a driver must have room for with segmentation (5.1.6.3.1)

// What a device offers whose backend does these offloads (TUN_F_* bits), and what of them its driver then
// accepts in received frames. Segments need checksums (5.1.3.1): a driver that takes the ones without the
// others gets neither.
[[nodiscard]] uint64_t net_features(uint32_t send_offloads, uint32_t receive_offloads);
[[nodiscard]] uint32_t accepted_offloads(uint64_t features);

// Makes of what a driver wrote before a frame of `length` bytes what a backend may act on: bits that mean
// nothing to us are cleared (5.1.6.2.2). False if it asks for something impossible, or not negotiated: such a
// frame is dropped.
[[nodiscard]] bool accept_header(backend::VnetHeader& header, size_t length, uint64_t features);

}  // namespace vmm::virtio
