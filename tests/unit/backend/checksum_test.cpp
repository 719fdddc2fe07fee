// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/checksum.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/unit/backend/frames.h"

namespace vmm::backend {
namespace {

std::span<std::byte> bytes_of(std::string& text) {
  return std::as_writable_bytes(std::span{text});
}

TEST(Checksum, AgreesWithTheDefinitionAtEveryLength) {
  std::string whole;
  for (size_t length = 2; length < 300; ++length) {
    whole = "12345";  // not covered, and an odd start
    for (size_t i = 0; i < length; ++i) whole += static_cast<char>(i * 7 + length);
    const auto expected = frames::checksum(std::string_view{whole}.substr(5));
    ASSERT_TRUE(complete_checksum(bytes_of(whole), 5, (length - 2) / 2));
    ASSERT_EQ(frames::get16(whole, 5 + (length - 2) / 2), expected == 0 ? 0xffff : expected) << length;
    ASSERT_EQ(whole.substr(0, 5), "12345");
  }
}

TEST(Checksum, LongAndAllOnes) {
  std::string ones(65'550, '\xff');
  EXPECT_TRUE(complete_checksum(bytes_of(ones), 0, 100));
  EXPECT_EQ(frames::get16(ones, 100), 0xffffU);  // not 0, which says that there is none
}

TEST(Checksum, OutsideTheFrameIsRefused) {
  std::string frame(20, 'x');
  const auto before = frame;
  EXPECT_FALSE(complete_checksum(bytes_of(frame), 21, 0));
  EXPECT_FALSE(complete_checksum(bytes_of(frame), 20, 0));
  EXPECT_FALSE(complete_checksum(bytes_of(frame), 10, 9));
  EXPECT_FALSE(complete_checksum(bytes_of(frame), 10, SIZE_MAX));
  EXPECT_FALSE(complete_checksum(bytes_of(frame), SIZE_MAX, 0));
  EXPECT_EQ(frame, before);
  EXPECT_TRUE(complete_checksum(bytes_of(frame), 10, 8));
}

}  // namespace
}  // namespace vmm::backend
