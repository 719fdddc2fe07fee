// SPDX-License-Identifier: Apache-2.0
//
// What precedes a frame between a guest and a tap (virtio 1.2, 5.1.6): what is left to do to it. Laid out
// here because <linux/virtio_net.h> is not C++ (a member called `class`). All fields are little-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace vmm::backend {

struct VnetHeader {
  static constexpr uint8_t kNeedsChecksum = 1;  // flags
  static constexpr uint8_t kDataValid = 2;

  static constexpr uint8_t kGsoNone = 0;  // gso_type
  static constexpr uint8_t kGsoTcp4 = 1;
  static constexpr uint8_t kGsoUdp = 3;
  static constexpr uint8_t kGsoTcp6 = 4;
  static constexpr uint8_t kGsoEcn = 0x80;  // beside a TCP type

  uint8_t flags = 0;
  uint8_t gso_type = kGsoNone;
  uint16_t header_length = 0;  // of all protocols together, a hint
  uint16_t gso_size = 0;       // bytes of payload a segment is to have
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;  // from checksum_start
  uint16_t buffers = 0;          // received frames: how many buffers this one fills
};
static_assert(sizeof(VnetHeader) == 12 && offsetof(VnetHeader, buffers) == 10);
static_assert(std::endian::native == std::endian::little);

}  // namespace vmm::backend
