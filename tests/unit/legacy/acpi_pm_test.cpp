// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/acpi_pm.h"

#include <gtest/gtest.h>

#include "tests/unit/legacy/fakes.h"

namespace vmm::legacy {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kStatus = 0, kEnable = 2, kControl = 4, kTimer = 8;
constexpr uint16_t kPowerButton = 0x0100;

class AcpiPmTest : public ::testing::Test {
 protected:
  FakeLine sci_;
  FakePower power_;
  std::chrono::nanoseconds now_{0};
  AcpiPm pm_{sci_, power_, [this] { return now_; }};
};

TEST_F(AcpiPmTest, AcpiModeIsOn) {
  EXPECT_EQ(port_in<uint16_t>(pm_, kControl), 0x0001);
  port_out<uint16_t>(pm_, kControl, 0);
  EXPECT_EQ(port_in<uint16_t>(pm_, kControl), 0x0001);
}

TEST_F(AcpiPmTest, PowerButtonRaisesTheInterruptUntilCleared) {
  EXPECT_FALSE(pm_.press_power_button()) << "nobody listens yet";
  EXPECT_FALSE(sci_.level);
  EXPECT_EQ(port_in<uint16_t>(pm_, kStatus), kPowerButton);
  port_out<uint16_t>(pm_, kStatus, 0xffff);
  EXPECT_EQ(port_in<uint16_t>(pm_, kStatus), 0);

  port_out<uint16_t>(pm_, kEnable, kPowerButton);
  EXPECT_FALSE(sci_.level);
  EXPECT_TRUE(pm_.press_power_button());
  EXPECT_TRUE(sci_.level);
  port_out<uint16_t>(pm_, kStatus, 0x0001);  // another bit
  EXPECT_TRUE(sci_.level);
  port_out<uint16_t>(pm_, kStatus, kPowerButton);
  EXPECT_FALSE(sci_.level);
}

TEST_F(AcpiPmTest, DisablingTheButtonDropsTheInterrupt) {
  port_out<uint16_t>(pm_, kEnable, kPowerButton);
  pm_.press_power_button();
  port_out<uint16_t>(pm_, kEnable, 0);
  EXPECT_FALSE(sci_.level);
  EXPECT_EQ(port_in<uint16_t>(pm_, kStatus), kPowerButton) << "and stays to be seen";
  port_out<uint16_t>(pm_, kEnable, kPowerButton);
  EXPECT_TRUE(sci_.level);
  pm_.reset();
  EXPECT_FALSE(sci_.level);
}

// ACPI's reference code reads an enable bit back and complains if it is lost.
TEST_F(AcpiPmTest, EnableBitsStick) {
  for (const uint16_t bit : std::initializer_list<uint16_t>{0x0001, 0x0020, 0x0100, 0x0200, 0x0400}) {
    port_out<uint16_t>(pm_, kEnable, bit);
    EXPECT_EQ(port_in<uint16_t>(pm_, kEnable), bit);
  }
  EXPECT_EQ(port_in<uint32_t>(pm_, kStatus), 0x04000000U) << "both registers in one access";
}

TEST_F(AcpiPmTest, SleepTypeFivePowersOff) {
  port_out<uint16_t>(pm_, kControl, AcpiPm::kSleepTypeS5 << 10);
  EXPECT_TRUE(power_.events.empty()) << "not without SLP_EN";
  port_out<uint16_t>(pm_, kControl, AcpiPm::kSleepTypeS5 << 10 | 0x2000);
  ASSERT_EQ(power_.events.size(), 1U);
  EXPECT_EQ(power_.events[0].event, PowerEvent::power_off);
}

TEST_F(AcpiPmTest, SleepByBytes) {
  port_out<uint8_t>(pm_, kControl + 1, 0x20 | AcpiPm::kSleepTypeS5 << 2);
  ASSERT_EQ(power_.events.size(), 1U);
  port_out<uint8_t>(pm_, kControl, 0xff);  // the low byte does not repeat it
  EXPECT_EQ(power_.events.size(), 1U);
}

TEST_F(AcpiPmTest, OtherSleepTypesAreIgnored) {
  for (uint16_t type = 0; type < 8; ++type) {
    if (type != AcpiPm::kSleepTypeS5)
      port_out<uint16_t>(pm_, kControl, static_cast<uint16_t>(type << 10 | 0x2000));
  }
  EXPECT_TRUE(power_.events.empty());
  EXPECT_EQ(port_in<uint16_t>(pm_, kControl), 7 << 10 | 1);
}

TEST_F(AcpiPmTest, TimerRunsAtItsFrequency) {
  EXPECT_EQ(port_in<uint32_t>(pm_, kTimer), 0U);
  now_ = 1s;
  EXPECT_EQ(port_in<uint32_t>(pm_, kTimer), 3'579'545U);
  now_ = 1500ms;
  EXPECT_EQ(port_in<uint32_t>(pm_, kTimer), 5'369'317U);
  now_ = 24h * 365 * 100;  // wraps, and nothing overflows on the way
  EXPECT_EQ(port_in<uint32_t>(pm_, kTimer), static_cast<uint32_t>(3'579'545ULL * 86'400 * 365 * 100));
  port_out<uint32_t>(pm_, kTimer, 5);
  EXPECT_EQ(port_in<uint8_t>(pm_, kTimer), static_cast<uint8_t>(3'579'545ULL * 86'400 * 365 * 100));
}

TEST_F(AcpiPmTest, Hammered) {
  hammer(pm_, AcpiPm::kPorts, 100'000);
}

TEST(AcpiPm, UsesTheHostsClock) {
  FakeLine sci;
  FakePower power;
  AcpiPm pm(sci, power);
  const auto first = port_in<uint32_t>(pm, kTimer);
  uint32_t second = first;
  for (int i = 0; i < 1'000'000 && second == first; ++i) second = port_in<uint32_t>(pm, kTimer);
  EXPECT_NE(first, second);
}

}  // namespace
}  // namespace vmm::legacy
