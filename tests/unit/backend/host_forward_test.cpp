// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/host_forward.h"

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

TEST(HostForward, Parses) {
  const auto full = HostForward::parse("tcp:0.0.0.0:8080-10.0.2.20:80");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->protocol, HostForward::Protocol::tcp);
  EXPECT_EQ(full->host_address.s_addr, 0U);
  EXPECT_EQ(full->host_port, 8080);
  EXPECT_EQ(ntohl(full->guest_address.s_addr), 0x0a000214U);
  EXPECT_EQ(full->guest_port, 80);
  EXPECT_EQ(full->to_string(), "tcp:0.0.0.0:8080-10.0.2.20:80");
}

TEST(HostForward, WithoutAnAddressOnlyThisHostConnects) {
  const auto forward = HostForward::parse("udp::5353-:53");
  ASSERT_TRUE(forward);
  EXPECT_EQ(forward->protocol, HostForward::Protocol::udp);
  EXPECT_EQ(ntohl(forward->host_address.s_addr), 0x7f000001U);
  EXPECT_EQ(forward->guest_address.s_addr, 0U);
  EXPECT_EQ(forward->to_string(), "udp:127.0.0.1:5353-:53");
}

TEST(HostForward, RefusesTheRestAndQuotesIt) {
  for (const auto* text :
       {"", "tcp", "tcp:", "tcp::80", "tcp::80-", "tcp::80-80", "tcp::80-:", "tcp::-:80", "sctp::1-:1",
        "tcp::0-:80", "tcp::80-:0", "tcp::65536-:80", "tcp::80-:65536", "tcp:host:80-:80", "tcp:1.2.3:80-:80",
        "tcp::80x-:80", "tcp::80-:80x", "tcp:: 80-:80", "tcp::-1-:80"}) {
    const auto forward = HostForward::parse(text);
    ASSERT_FALSE(forward) << text;
    EXPECT_NE(forward.error().message.find(std::string{"'"} + text + "'"), std::string::npos);
  }
}

}  // namespace
}  // namespace vmm::backend
