// SPDX-License-Identifier: Apache-2.0
#include "guest/init/text.h"

#include <climits>
#include <string_view>

#include <gtest/gtest.h>

namespace guest {
namespace {

std::string_view view(Text text) {
  return {text.data, text.size};
}

TEST(Text, ComparesByContent) {
  EXPECT_TRUE(Text{"abc"} == "abc");
  EXPECT_FALSE(Text{"abc"} == "abd");
  EXPECT_FALSE(Text{"abc"} == "ab");
  EXPECT_TRUE(Text{"abc"}.starts_with("ab"));
  EXPECT_FALSE(Text{"ab"}.starts_with("abc"));
  EXPECT_TRUE(Text{static_cast<const char*>(nullptr)}.empty());
}

TEST(Text, TakesUntilASeparatorAndKeepsTheRest) {
  Text rest = "a,b,";
  EXPECT_EQ(view(take_until(rest, ',')), "a");
  EXPECT_EQ(view(take_until(rest, ',')), "b");
  EXPECT_TRUE(rest.empty());
  EXPECT_TRUE(take_until(rest, ',').empty());
}

TEST(Text, ReadsNumbersThatEndWhereTheDigitsEnd) {
  EXPECT_EQ(number("17x"), 17u);
  EXPECT_EQ(number("x"), 0u);
  EXPECT_EQ(number(Text{}), 0u);
  EXPECT_EQ(hexadecimal("0x001f\n"), 0x1fu);
  EXPECT_EQ(hexadecimal("0x"), 0u);
}

TEST(Text, DoesNotOverflowAtALongNumber) {
  EXPECT_GE(number("99999999999999999999"), 86400u);
}

TEST(Decimal, WritesEveryLong) {
  char digits[24];
  EXPECT_EQ(view(decimal(0, digits)), "0");
  EXPECT_EQ(view(decimal(-19, digits)), "-19");
  EXPECT_EQ(view(decimal(LONG_MIN, digits)), "-9223372036854775808");
}

TEST(Buffer, JoinsItsParts) {
  EXPECT_EQ(view(Path{"/dev/", Text{"vda"}}.text()), "/dev/vda");
}

TEST(Buffer, DropsWhatDoesNotFitAndSaysSo) {
  Buffer<4> small{"abc"};
  EXPECT_TRUE(small.whole());
  small.add("d");
  EXPECT_FALSE(small.whole());
  EXPECT_STREQ(small.c_str(), "abc");
}

}  // namespace
}  // namespace guest
