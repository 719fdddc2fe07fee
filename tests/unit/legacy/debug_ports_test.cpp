// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/debug_ports.h"

#include <gtest/gtest.h>

#include "tests/unit/legacy/fakes.h"

namespace vmm::legacy {
namespace {

TEST(MarkerPort, KeepsMarksInOrder) {
  std::vector<uint8_t> told;
  MarkerPort port([&told](const MarkerPort::Mark& mark) { told.push_back(mark.value); });
  const auto before = std::chrono::steady_clock::now();
  port_out<uint8_t>(port, 0, 2);
  port_out<uint8_t>(port, 0, 1);
  const auto marks = port.marks();
  ASSERT_EQ(marks.size(), 2U);
  EXPECT_EQ(marks[0].value, 2);
  EXPECT_EQ(marks[1].value, 1);
  EXPECT_LE(before, marks[0].time);
  EXPECT_LE(marks[0].time, marks[1].time);
  EXPECT_EQ(told, (std::vector<uint8_t>{2, 1}));
  EXPECT_EQ(port_in<uint8_t>(port, 0), 0xff) << "a guest cannot tell it from a port that is not there";
}

TEST(MarkerPort, AFloodDoesNotGrow) {
  int told = 0;
  MarkerPort port([&told](const MarkerPort::Mark&) { ++told; });
  for (int i = 0; i < 100'000; ++i) port_out<uint8_t>(port, 0, static_cast<uint8_t>(i));
  EXPECT_EQ(port.marks().size(), MarkerPort::kMost);
  EXPECT_EQ(port.marks().front().value, 0);
  EXPECT_EQ(told, static_cast<int>(MarkerPort::kMost));
  EXPECT_EQ(port.dropped(), 100'000 - MarkerPort::kMost);
}

TEST(MarkerPort, Hammered) {
  MarkerPort port;
  hammer(port, MarkerPort::kPorts, 100'000);
}

TEST(DebugConsole, WritesAndIsFound) {
  FakeConsole console;
  DebugConsole port(console);
  EXPECT_EQ(port_in<uint8_t>(port, 0), 0xe9);
  port_out<uint8_t>(port, 0, 'o');
  port_out<uint32_t>(port, 0, 'k');
  EXPECT_EQ(console.output, "ok");
}

}  // namespace
}  // namespace vmm::legacy
