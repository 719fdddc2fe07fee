// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/mac_address.h"

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

TEST(MacAddress, ParsesAndPrints) {
  const auto mac = MacAddress::parse("52:54:00:aB:cd:0f");
  ASSERT_TRUE(mac) << mac.error().message;
  EXPECT_EQ(mac->bytes, (std::array<uint8_t, 6>{0x52, 0x54, 0, 0xab, 0xcd, 0x0f}));
  EXPECT_EQ(mac->to_string(), "52:54:00:ab:cd:0f");
}

TEST(MacAddress, RefusesTheRest) {
  for (const auto* text :
       {"", "52:54:00:12:34", "52:54:00:12:34:5", "52:54:00:12:34:567", "52-54-00-12-34-56",
        "52:54:00:12:34:5g", "5 :54:00:12:34:56", "+2:54:00:12:34:56", "-2:54:00:12:34:56",
        "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"}) {
    EXPECT_FALSE(MacAddress::parse(text)) << text;
  }
}

TEST(MacAddress, StableIsLocalAndOfOneStation) {
  for (int i = 0; i < 100; ++i) {
    const auto name = "tap" + std::to_string(i);
    const auto mac = MacAddress::stable(name);
    EXPECT_EQ(mac, MacAddress::stable(name));
    EXPECT_NE(mac, MacAddress::stable(name + "x"));
    EXPECT_EQ(mac.bytes[0] & 3, 2);
    EXPECT_TRUE(MacAddress::parse(mac.to_string()));
  }
}

}  // namespace
}  // namespace vmm::backend
