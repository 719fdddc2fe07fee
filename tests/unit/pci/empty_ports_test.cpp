// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/empty_ports.h"

#include <gtest/gtest.h>

#include "tests/unit/pci/fakes.h"

namespace vmm::pci {
namespace {

// What Linux tries before it believes in configuration ports (arch/x86/pci/direct.c), and what it then finds.
TEST(EmptyPorts, AnAddressRegisterWithNothingBehindIt) {
  Bus ports;
  FakeRegisters reset_control{0x0f};
  EmptyPorts empty{reset_control};
  ASSERT_TRUE(ports.map(0xcf8, EmptyPorts::kPorts, empty, "pci-config"));
  bus_write<uint8_t>(ports, 0xcfb, 0x01);
  bus_write<uint32_t>(ports, 0xcf8, 0x80000000);
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcf8), 0x80000000U);
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcfc), ~0U);
  EXPECT_EQ(bus_read<uint16_t>(ports, 0xcfe), 0xffff);
  bus_write<uint32_t>(ports, 0xcfc, 0);
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcf8), 0x80000000U);
}

TEST(EmptyPorts, ResetControlIsReached) {
  Bus ports;
  FakeRegisters reset_control{0x0f};
  EmptyPorts empty{reset_control};
  ASSERT_TRUE(ports.map(0xcf8, EmptyPorts::kPorts, empty, "pci-config"));
  EXPECT_EQ(bus_read<uint8_t>(ports, 0xcf9), 0x0f);
  bus_write<uint8_t>(ports, 0xcf9, 6);
  EXPECT_EQ(reset_control.last_offset, 0U);
  EXPECT_EQ(reset_control.last_size, 1U);
}

}  // namespace
}  // namespace vmm::pci
