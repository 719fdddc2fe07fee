// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/bar_space.h"

#include <gtest/gtest.h>

#include "tests/unit/pci/fakes.h"

namespace vmm::pci {
namespace {

constexpr uint64_t kBase = 0xc0000000;
constexpr uint64_t kSize = 0x20000000;
constexpr auto kCounted = BarRegion::Refusal::counted;

struct BarSpaceTest : testing::Test {
  uint8_t at(uint64_t address) { return bus_read<uint8_t>(mmio, address); }

  Bus mmio;
  FakeDoorbells doorbells;
  BarSpace space{BarSpace::Kind::mmio, mmio, doorbells, {.base = kBase, .size = kSize}};
  FakeRegisters a_registers{0xaa};
  FakeRegisters b_registers{0xbb};
  BarRegion a{space, a_registers, 0x4000, "a"};
  BarRegion b{space, b_registers, 0x1000, "b"};
};

TEST_F(BarSpaceTest, AllocationIsNaturallyAlignedAndBounded) {
  EXPECT_EQ(*space.allocate(0x1000), kBase);
  EXPECT_EQ(*space.allocate(0x8000), kBase + 0x8000);
  EXPECT_EQ(*space.allocate(0x1000), kBase + 0x10000);
  EXPECT_EQ(*space.allocate(0x10000000), kBase + 0x10000000);
  const auto full = space.allocate(0x1000);
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().message.find("full"), std::string::npos);
  EXPECT_FALSE(space.allocate(1ULL << 63));
}

TEST_F(BarSpaceTest, DecodesWhereItIsPut) {
  EXPECT_EQ(at(kBase), 0xff);
  a.decode_at(kBase, kCounted);
  EXPECT_EQ(at(kBase), 0xaa);
  EXPECT_EQ(at(kBase + 0x3fff), 0xaa);
  EXPECT_EQ(at(kBase + 0x4000), 0xff);
  a.decode_at(kBase + kSize - 0x4000, kCounted);
  EXPECT_EQ(at(kBase), 0xff);
  EXPECT_EQ(at(kBase + kSize - 1), 0xaa);
  a.decode_at(std::nullopt, kCounted);
  EXPECT_EQ(at(kBase + kSize - 1), 0xff);
  EXPECT_EQ(space.refused(), 0U);
}

// HG35: RAM, the interrupt controllers, ECAM, the end of the address space, halves of the window.
TEST_F(BarSpaceTest, OutsideTheWindowIsNotDecodedAndCanComeBack) {
  a.decode_at(kBase, kCounted);
  const uint64_t bad[] = {0,          0x100000,      kBase - 0x1000, kBase + kSize - 0x1000,
                          0xe0000000, 0xfec00000,    0xfee00000,     1ULL << 52,
                          1ULL << 63, ~0ULL - 0x3fff};
  for (const uint64_t address : bad) {
    a.decode_at(address, kCounted);
    EXPECT_FALSE(a.decoded_at()) << std::hex << address;
    EXPECT_EQ(at(address), 0xff);
    EXPECT_EQ(at(kBase), 0xff);
  }
  EXPECT_EQ(space.refused(), std::size(bad));
  a.decode_at(kBase, kCounted);
  EXPECT_EQ(at(kBase), 0xaa);
}

TEST_F(BarSpaceTest, TakenPlaceIsGivenWhenItBecomesFree) {
  a.decode_at(kBase, kCounted);
  b.decode_at(kBase + 0x1000, kCounted);  // onto a
  EXPECT_EQ(at(kBase + 0x1000), 0xaa);
  EXPECT_EQ(space.refused(), 1U);
  a.decode_at(kBase + 0x10000, kCounted);
  EXPECT_EQ(at(kBase + 0x1000), 0xbb) << "the place is free now";
  EXPECT_EQ(at(kBase + 0x10000), 0xaa);
}

TEST_F(BarSpaceTest, TwoBarsSwapPlaces) {
  a.decode_at(kBase, kCounted);
  b.decode_at(kBase + 0x8000, kCounted);
  a.decode_at(kBase + 0x8000, kCounted);
  b.decode_at(kBase, kCounted);
  EXPECT_EQ(at(kBase), 0xbb);
  EXPECT_EQ(at(kBase + 0x8000), 0xaa);
}

TEST_F(BarSpaceTest, ExpectedRefusalIsNotCounted) {
  a.decode_at(0xffffc000, BarRegion::Refusal::expected);
  EXPECT_EQ(space.refused(), 0U);
}

TEST_F(BarSpaceTest, DoorbellsFollowTheBar) {
  a.add_doorbell(0x2004, 0, 7);
  EXPECT_TRUE(doorbells.bound.empty());
  a.decode_at(kBase, kCounted);
  ASSERT_EQ(doorbells.bound.size(), 1U);
  EXPECT_EQ(doorbells.bound[0].first.address, kBase + 0x2004);
  EXPECT_EQ(doorbells.bound[0].second, 7);
  a.add_doorbell(0x2008, 0, 8);
  EXPECT_EQ(doorbells.bound.size(), 2U);
  a.decode_at(kBase + 0x8000, kCounted);
  ASSERT_EQ(doorbells.bound.size(), 2U);
  EXPECT_EQ(doorbells.bound[0].first.address, kBase + 0xa004);
  a.remove_doorbell(0x2004, 7);
  EXPECT_EQ(doorbells.bound.size(), 1U);
  a.remove_doorbell(0x2004, 7);
  a.decode_at(0x1000, kCounted);
  EXPECT_TRUE(doorbells.bound.empty());
  EXPECT_EQ(doorbells.unknown, 0);
}

TEST_F(BarSpaceTest, RefusedDoorbellReachesTheHandler) {
  doorbells.refuse = true;
  a.add_doorbell(0x2000, 0, 7);
  a.decode_at(kBase, kCounted);
  bus_write<uint16_t>(mmio, kBase + 0x2000, 1);
  EXPECT_EQ(a_registers.last_offset, 0x2000U);
  a.decode_at(std::nullopt, kCounted);
  EXPECT_EQ(doorbells.unknown, 0) << "what was not bound is not unbound";
}

TEST_F(BarSpaceTest, GoneRegionLeavesNothingBehind) {
  {
    FakeRegisters registers{0xcc};
    BarRegion c{space, registers, 0x1000, "c"};
    c.add_doorbell(0, 2, 9);
    c.decode_at(kBase, kCounted);
    EXPECT_EQ(at(kBase), 0xcc);
  }
  EXPECT_EQ(at(kBase), 0xff);
  EXPECT_TRUE(doorbells.bound.empty());
  a.decode_at(kBase, kCounted);
  EXPECT_EQ(at(kBase), 0xaa);
}

}  // namespace
}  // namespace vmm::pci
