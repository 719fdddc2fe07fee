// SPDX-License-Identifier: Apache-2.0
#include "firmware/aml.h"

#include <gtest/gtest.h>

namespace vmm::firmware::aml {
namespace {

Bytes bytes(std::initializer_list<int> values) {
  Bytes out;
  for (const int value : values) out.push_back(static_cast<std::byte>(value));
  return out;
}

TEST(Aml, IntegersTakeTheShortestForm) {
  EXPECT_EQ(integer(0), bytes({0x00}));
  EXPECT_EQ(integer(1), bytes({0x01}));
  EXPECT_EQ(integer(2), bytes({0x0a, 2}));
  EXPECT_EQ(integer(0xff), bytes({0x0a, 0xff}));
  EXPECT_EQ(integer(0x100), bytes({0x0b, 0x00, 0x01}));
  EXPECT_EQ(integer(0x10000), bytes({0x0c, 0, 0, 1, 0}));
  EXPECT_EQ(integer(0x1'0000'0000), bytes({0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, NamesAreFilledUp) {
  EXPECT_EQ(name("AB", integer(1)), bytes({0x08, 'A', 'B', '_', '_', 0x01}));
  EXPECT_EQ(name("ABCD", string("x")), bytes({0x08, 'A', 'B', 'C', 'D', 0x0d, 'x', 0}));
}

TEST(Aml, ScopeAndDevice) {
  EXPECT_EQ(system_bus({}), bytes({0x10, 6, '\\', '_', 'S', 'B', '_'}));
  EXPECT_EQ(device("D", {integer(0), integer(1)}), bytes({0x5b, 0x82, 7, 'D', '_', '_', '_', 0, 1}));
}

// A scope's content is five bytes of its name and what is given.
TEST(Aml, PackageLengthCountsItself) {
  const auto start = [](size_t content, size_t count) {
    Bytes out = system_bus(Bytes(content - 5));
    EXPECT_EQ(out.size(), 1 + count + content);
    return Bytes(out.begin() + 1, out.begin() + 1 + static_cast<std::ptrdiff_t>(count));
  };
  EXPECT_EQ(start(62, 1), bytes({63}));
  EXPECT_EQ(start(63, 2), bytes({0x41, 0x04}));             // 65
  EXPECT_EQ(start(4093, 2), bytes({0x4f, 0xff}));           // 4095
  EXPECT_EQ(start(4094, 3), bytes({0x81, 0x00, 0x01}));     // 4097
  EXPECT_EQ(start(0xffffc, 3), bytes({0x8f, 0xff, 0xff}));  // 2^20 - 1
  EXPECT_EQ(start(0xffffd, 4), bytes({0xc1, 0x00, 0x00, 0x01}));
}

TEST(Aml, Resources) {
  EXPECT_EQ(resources({memory32(0xfeb01000, 0x1000), edge_interrupt(Gsi{6})}),
            bytes({0x11, 0x1a, 0x0a, 0x17,  // buffer of 23 bytes
                   0x86, 9,    0,    1,    0x00, 0x10, 0xb0, 0xfe, 0x00, 0x10, 0x00, 0x00,  //
                   0x89, 6,    0,    3,    1,    6,    0,    0,    0,                       //
                   0x79, 0}));
}

}  // namespace
}  // namespace vmm::firmware::aml
