// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net_header.h"

#include <linux/if_tun.h>

#include <gtest/gtest.h>

namespace vmm::virtio {
namespace {

using backend::VnetHeader;

constexpr uint64_t kAll =
    net_feature::kChecksum | net_feature::kHostTso4 | net_feature::kHostTso6 | net_feature::kHostEcn;
constexpr size_t kFrame = 100;

VnetHeader checksummed() {
  return {.flags = VnetHeader::kNeedsChecksum, .checksum_start = 34, .checksum_offset = 16};
}

VnetHeader segmented() {
  auto header = checksummed();
  header.gso_type = VnetHeader::kGsoTcp4;
  header.gso_size = 1448;
  header.header_length = 54;
  return header;
}

bool accepted(VnetHeader header, uint64_t features = kAll) {
  return accept_header(header, kFrame, features);
}

TEST(NetHeader, PlainFrameNeedsNothing) {
  EXPECT_TRUE(accepted({}, 0));
}

TEST(NetHeader, WhatMeansNothingIsCleared) {
  VnetHeader header{.flags = 0xfe,
                    .gso_type = 0,
                    .header_length = 9999,
                    .gso_size = 7,
                    .checksum_start = 0xffff,
                    .checksum_offset = 0xffff,
                    .buffers = 99};
  EXPECT_TRUE(accept_header(header, kFrame, kAll));
  EXPECT_EQ(header.flags, 0);
  EXPECT_EQ(header.header_length, 0);
  EXPECT_EQ(header.gso_size, 0);
  EXPECT_EQ(header.checksum_start, 0);
  EXPECT_EQ(header.checksum_offset, 0);
  EXPECT_EQ(header.buffers, 0);
}

TEST(NetHeader, ChecksumMustBeNegotiated) {
  EXPECT_TRUE(accepted(checksummed()));
  EXPECT_FALSE(accepted(checksummed(), kAll & ~net_feature::kChecksum));
}

TEST(NetHeader, ChecksumMustLieInTheFrame) {
  auto header = checksummed();
  header.checksum_start = kFrame - 18;
  EXPECT_TRUE(accepted(header));  // the last two bytes
  header.checksum_start = kFrame - 17;
  EXPECT_FALSE(accepted(header));
  header.checksum_start = 0xffff;
  header.checksum_offset = 0xffff;  // whose sum does not wrap
  EXPECT_FALSE(accepted(header));
}

TEST(NetHeader, SegmentationMustBeNegotiated) {
  EXPECT_TRUE(accepted(segmented()));
  EXPECT_FALSE(accepted(segmented(), kAll & ~net_feature::kHostTso4));
  auto header = segmented();
  header.gso_type = VnetHeader::kGsoTcp6;
  EXPECT_TRUE(accepted(header));
  EXPECT_FALSE(accepted(header, kAll & ~net_feature::kHostTso6));
  header.gso_type |= VnetHeader::kGsoEcn;
  EXPECT_TRUE(accepted(header));
  EXPECT_FALSE(accepted(header, kAll & ~net_feature::kHostEcn));
}

TEST(NetHeader, SegmentsNeedChecksumAndSize) {
  auto header = segmented();
  header.flags = 0;
  EXPECT_FALSE(accepted(header));
  header = segmented();
  header.gso_size = 0;
  EXPECT_FALSE(accepted(header));
  header = segmented();
  header.header_length = kFrame + 1;
  EXPECT_FALSE(accepted(header));
}

TEST(NetHeader, ATapIsAskedOnlyForWhatItTakes) {
  const uint64_t checksum = net_feature::kGuestChecksum;
  EXPECT_EQ(accepted_offloads(net_feature::kGuestTso4 | net_feature::kGuestEcn), 0U);
  EXPECT_EQ(accepted_offloads(checksum | net_feature::kGuestEcn), unsigned{TUN_F_CSUM});
  EXPECT_EQ(accepted_offloads(checksum | net_feature::kGuestEcn | net_feature::kGuestTso6),
            unsigned{TUN_F_CSUM | TUN_F_TSO_ECN | TUN_F_TSO6});
}

TEST(NetHeader, UnknownSegmentation) {
  for (int type = 0; type < 256; ++type) {
    auto header = segmented();
    header.gso_type = static_cast<uint8_t>(type);
    const bool known = type == 0 || type == 1 || type == 4 || type == 0x81 || type == 0x84;
    EXPECT_EQ(accepted(header), known) << type;
  }
}

}  // namespace
}  // namespace vmm::virtio
