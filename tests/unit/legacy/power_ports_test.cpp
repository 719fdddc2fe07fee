// SPDX-License-Identifier: Apache-2.0
//
// The ports that do little but end the run: reset control, keyboard controller, pvpanic, debug exit.
#include <gtest/gtest.h>

#include "devices/legacy/debug_ports.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/pvpanic.h"
#include "devices/legacy/reset_control.h"
#include "tests/unit/legacy/fakes.h"

namespace vmm::legacy {
namespace {

TEST(ResetControl, ResetsAsLinuxAsks) {
  FakePower power;
  ResetControl port(power);
  const auto value = static_cast<uint8_t>(port_in<uint8_t>(port, 0) & ~0x06);
  port_out<uint8_t>(port, 0, value | 0x02);
  EXPECT_EQ(port_in<uint8_t>(port, 0), 0x02);
  EXPECT_TRUE(power.events.empty());
  port_out<uint8_t>(port, 0, value | 0x06);
  ASSERT_EQ(power.events.size(), 1U);
  EXPECT_EQ(power.events[0].event, PowerEvent::reset);
  port.reset();
  EXPECT_EQ(port_in<uint8_t>(port, 0), 0);
}

TEST(ResetControl, Hammered) {
  FakePower power;
  ResetControl port(power);
  hammer(port, ResetControl::kPorts, 100'000);
}

TEST(I8042, IsReadyAndSilent) {
  FakePower power;
  I8042 port(power);
  EXPECT_EQ(port_in<uint8_t>(port, 4), 0);
  EXPECT_EQ(port_in<uint8_t>(port, 0), 0);
  EXPECT_EQ(port_in<uint32_t>(port, 0), 0xffffff00U) << "the ports between are not ours";
}

TEST(I8042, PulseOfTheResetLine) {
  FakePower power;
  I8042 port(power);
  port_out<uint8_t>(port, 4, 0xff);  // pulses nothing
  port_out<uint8_t>(port, 4, 0xaa);  // self-test
  port_out<uint8_t>(port, 0, 0xfe);  // data, not a command
  EXPECT_TRUE(power.events.empty());
  port_out<uint8_t>(port, 4, 0xfe);
  ASSERT_EQ(power.events.size(), 1U);
  EXPECT_EQ(power.events[0].event, PowerEvent::reset);
}

TEST(I8042, OutputPort) {
  FakePower power;
  I8042 port(power);
  port_out<uint8_t>(port, 4, 0xd1);
  port_out<uint8_t>(port, 0, 0xdf);  // opens the A20 gate
  port_out<uint8_t>(port, 0, 0x00);  // belongs to no command
  port_out<uint8_t>(port, 4, 0xd1);
  port_out<uint8_t>(port, 4, 0x20);  // another command takes its place
  port_out<uint8_t>(port, 0, 0x00);
  EXPECT_TRUE(power.events.empty());
  port_out<uint8_t>(port, 4, 0xd1);
  port_out<uint8_t>(port, 0, 0xfe);
  EXPECT_EQ(power.events.size(), 1U);
}

TEST(I8042, Hammered) {
  FakePower power;
  I8042 port(power);
  hammer(port, I8042::kPorts, 100'000);
}

TEST(Pvpanic, Events) {
  FakePower power;
  Pvpanic port(power);
  EXPECT_EQ(port_in<uint8_t>(port, 0), 0x03);
  port_out<uint8_t>(port, 0, 0xfe);  // a crash kernel goes on
  EXPECT_TRUE(power.events.empty());
  port_out<uint8_t>(port, 0, 0x01);
  ASSERT_EQ(power.events.size(), 1U);
  EXPECT_EQ(power.events[0].event, PowerEvent::guest_panic);
}

TEST(Pvpanic, Hammered) {
  FakePower power;
  Pvpanic port(power);
  hammer(port, Pvpanic::kPorts, 100'000);
}

TEST(DebugExit, StatusIsNeverZero) {
  FakePower power;
  DebugExit port(power);
  port_out<uint32_t>(port, 0, 0x10);
  port_out<uint8_t>(port, 0, 0x00);
  port_out<uint16_t>(port, 0, 0x80);
  ASSERT_EQ(power.events.size(), 3U);
  EXPECT_EQ(power.events[0].event, PowerEvent::debug_exit);
  EXPECT_EQ(power.events[0].status, 33);
  EXPECT_EQ(power.events[1].status, 1);
  EXPECT_EQ(power.events[2].status, 1);
}

TEST(DebugExit, Hammered) {
  FakePower power;
  DebugExit port(power);
  hammer(port, DebugExit::kPorts, 100'000);
}

}  // namespace
}  // namespace vmm::legacy
