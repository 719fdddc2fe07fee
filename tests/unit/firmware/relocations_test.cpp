// SPDX-License-Identifier: Apache-2.0
#include "firmware/relocations.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Words = std::vector<uint32_t>;

constexpr uint64_t kVirtual = 0xffffffff81000000;

TEST(Relocations, ThreeListsOrTwo) {
  const Words three{0, 0x81000010, 0x81000020, 0, 0x81000030, 0, 0x81000040};
  const auto old = Relocations::parse(three);
  ASSERT_TRUE(old);
  EXPECT_THAT(old->add64, ElementsAre(0x81000010, 0x81000020));
  EXPECT_THAT(old->subtract32, ElementsAre(0x81000030));
  EXPECT_THAT(old->add32, ElementsAre(0x81000040));
  const Words two{0, 0x81000010, 0, 0x81000040};  // Linux 6.15 and later
  const auto recent = Relocations::parse(two);
  ASSERT_TRUE(recent);
  EXPECT_THAT(recent->add64, ElementsAre(0x81000010));
  EXPECT_THAT(recent->subtract32, IsEmpty());
  EXPECT_THAT(recent->add32, ElementsAre(0x81000040));
  EXPECT_TRUE(Relocations::parse(Words{0, 0, 0}));
}

TEST(Relocations, WhatIsNoTableIsNone) {
  EXPECT_FALSE(Relocations::parse({}));
  EXPECT_FALSE(Relocations::parse(Words{0}));
  EXPECT_FALSE(Relocations::parse(Words{0x81000010, 0, 0, 0}));  // does not begin with a zero
  EXPECT_FALSE(Relocations::parse(Words{0, 1, 0, 2, 0, 3, 0, 4}));
  EXPECT_FALSE(Relocations::parse(Words(kMostRelocationBytes / 4 + 1)));
}

TEST(Relocations, MoveEachKindOfPlace) {
  const auto memory = test::make_memory(1);
  const auto image = memory.slice(Gpa{0x20000}, 0x3000);
  ASSERT_TRUE(image);
  image->store(0x10, uint64_t{0xffffffff81001000});
  image->store(0xffc, uint64_t{0xffffffff81002000});  // over the end of a page
  image->store(0x20, uint32_t{0x8000});
  image->store(0x31, uint32_t{0x81000100});  // nothing says that a place is aligned
  image->store(0x2ffc, uint32_t{0xfffffff0});
  const Words table{0, 0x81000010, 0x81000ffc, 0, 0x81000020, 0, 0x81000031, 0x81002ffc};
  const auto relocations = Relocations::parse(table);
  ASSERT_TRUE(relocations);
  const auto done = relocations->apply(*image, kVirtual, 0x12200000, "k");
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(image->load<uint64_t>(0x10), 0xffffffff93201000U);
  EXPECT_EQ(image->load<uint64_t>(0xffc), 0xffffffff93202000U);
  EXPECT_EQ(image->load<uint32_t>(0x20), 0x8000U - 0x12200000U);
  EXPECT_EQ(image->load<uint32_t>(0x31), 0x93200100U);
  EXPECT_EQ(image->load<uint32_t>(0x2ffc), 0x121ffff0U);  // 32 bits, whatever the file says
}

TEST(Relocations, PlacesOutsideAreRefused) {
  const auto memory = test::make_memory(1);
  const auto image = memory.slice(Gpa{0x20000}, 0x3000);
  ASSERT_TRUE(image);
  const auto fault = [&](const Words& table) {
    const auto relocations = Relocations::parse(table);
    if (!relocations) return std::string{"no table"};
    const auto done = relocations->apply(*image, kVirtual, 0x200000, "kernel.bin");
    return done ? std::string{} : done.error().message;
  };
  EXPECT_EQ(fault({0, 0x81002ff8, 0, 0x81002ffc, 0, 0x81002ffc}), "");
  for (const uint32_t place : {0x80ffffffU, 0x81003000U, 1U, 0x7fffffffU, 0xffffffffU}) {
    EXPECT_THAT(fault({0, place, 0, 0}), HasSubstr("kernel.bin: its relocation of")) << place;
    EXPECT_THAT(fault({0, 0, place, 0}), HasSubstr("outside")) << place;
    EXPECT_THAT(fault({0, 0, 0, place}), HasSubstr("outside")) << place;
  }
  EXPECT_THAT(fault({0, 0x81002ff9, 0, 0}), HasSubstr("outside"));  // its last byte is
  EXPECT_THAT(fault({0, 0, 0, 0x81002ffd}), HasSubstr("outside"));
  // Nothing beside the image was written.
  EXPECT_EQ(memory.load<uint64_t>(Gpa{0x20000 - 8}), 0U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{0x23000}), 0U);
}

}  // namespace
}  // namespace vmm::firmware
