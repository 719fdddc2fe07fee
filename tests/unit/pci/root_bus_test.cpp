// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/root_bus.h"

#include <gtest/gtest.h>

#include "tests/unit/pci/fakes.h"

namespace vmm::pci {
namespace {

constexpr uint64_t kEcam = 0xe0000000;
constexpr uint64_t kWindow = 0xc0000000;
constexpr uint64_t kPorts = 0xc000;

uint32_t address_of(uint32_t bus, uint32_t device, uint32_t function, uint32_t reg) {
  return 0x80000000U | (bus << 16) | (device << 11) | (function << 8) | (reg & 0xfc);
}

struct RootBusTest : testing::Test {
  RootBusTest() {
    auto created = RootBus::create(ports, mmio, doorbells,
                                   {.ecam = memory,
                                    .readable = pages,
                                    .memory = {.base = kWindow, .size = 0x20000000},
                                    .ports = {.base = kPorts, .size = 0x4000},
                                    .intx = {&lines[0], &lines[1], &lines[2], &lines[3]},
                                    .reset_control = &reset_control});
    EXPECT_TRUE(created);
    root = std::move(*created);
    auto slot = root->take_slot();
    EXPECT_TRUE(slot);
    endpoint = std::make_unique<Endpoint>("dev0", *slot, Identity{.vendor = 0x1af4, .device = 0x1042});
    EXPECT_TRUE(endpoint->add_bar(0, Endpoint::BarKind::memory32, 0x1000, registers));
    endpoint->power_on();
    root->plug(*slot, *endpoint);
  }
  uint32_t conf(uint32_t address) {
    bus_write<uint32_t>(ports, 0xcf8, address);
    return bus_read<uint32_t>(ports, 0xcfc);
  }

  Bus ports;
  Bus mmio;
  FakeDoorbells doorbells;
  FakePages pages;
  const ConfigMemory memory = ConfigMemory::create(Gpa{kEcam}).value();
  std::array<FakeIrqLine, 4> lines;
  FakeRegisters reset_control{0x0f};
  FakeRegisters registers{0x42};
  std::unique_ptr<RootBus> root;
  std::unique_ptr<Endpoint> endpoint;
};

TEST_F(RootBusTest, HostBridgeIsAtZero) {
  EXPECT_EQ(conf(address_of(0, 0, 0, 0)), 0x00081b36U);
  EXPECT_EQ(conf(address_of(0, 0, 0, 8)), 0x06000000U);
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam), 0x00081b36U);
  bus_write<uint32_t>(mmio, kEcam + 4, ~0U);
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + 4), 0U);
}

TEST_F(RootBusTest, PortsAndEcamShowTheSame) {
  EXPECT_EQ(conf(address_of(0, 1, 0, 0)), 0x10421af4U);
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + (1U << 15)), 0x10421af4U);
  bus_write<uint32_t>(ports, 0xcf8, address_of(0, 1, 0, 0x10));
  bus_write<uint32_t>(ports, 0xcfc, 0xd0000000);
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + (1U << 15) + 0x10), 0xd0000000U);
  bus_write<uint16_t>(mmio, kEcam + (1U << 15) + kCommand, kCommandMemory);
  EXPECT_EQ(bus_read<uint8_t>(mmio, 0xd0000000), 0x42);
}

// HG36: all widths and alignments at the data register that stay in it.
TEST_F(RootBusTest, DataPortHasByteLanes) {
  bus_write<uint32_t>(ports, 0xcf8, address_of(0, 1, 0, 0));
  EXPECT_EQ(bus_read<uint8_t>(ports, 0xcfc), 0xf4);
  EXPECT_EQ(bus_read<uint8_t>(ports, 0xcff), 0x10);
  EXPECT_EQ(bus_read<uint16_t>(ports, 0xcfe), 0x1042);
  EXPECT_EQ(bus_read<uint16_t>(ports, 0xcfd), 0x421a);
  EXPECT_EQ(bus_read<uint16_t>(ports, 0xcff), 0xffff) << "leaves the register";
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcfa), 0xffffffffU);
  bus_write<uint32_t>(ports, 0xcf8, address_of(0, 1, 0, 0x3c));
  bus_write<uint16_t>(ports, 0xcfb, 0xeeee);  // half in the address register
  EXPECT_EQ(bus_read<uint8_t>(ports, 0xcfc), 17);
  bus_write<uint8_t>(ports, 0xcfc, 0x0b);
  EXPECT_EQ(bus_read<uint8_t>(ports, 0xcfc), 0x0b);
}

// HG36: only dwords reach the address register; a byte at 0xCF9 is the reset control register's.
TEST_F(RootBusTest, AddressPortTakesDwordsOnly) {
  bus_write<uint32_t>(ports, 0xcf8, 0xffffffffU);
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcf8), 0x80fffffcU);
  bus_write<uint8_t>(ports, 0xcfb, 0x01);
  bus_write<uint16_t>(ports, 0xcf8, 0);
  bus_write<uint8_t>(ports, 0xcf8, 0);
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcf8), 0x80fffffcU);
  EXPECT_EQ(bus_read<uint16_t>(ports, 0xcf8), 0xffff);
  EXPECT_EQ(bus_read<uint8_t>(ports, 0xcf9), 0x0f);
  bus_write<uint8_t>(ports, 0xcf9, 6);
  EXPECT_EQ(reset_control.last_offset, 0U);
  EXPECT_EQ(reset_control.last_size, 1U);
}

// HG36: everything that is not there reads all-ones, and swallows writes.
TEST_F(RootBusTest, AbsentFunctionsAreAllOnes) {
  const uint32_t absent[] = {address_of(0, 2, 0, 0), address_of(0, 31, 0, 0), address_of(0, 0, 1, 0),
                             address_of(0, 1, 7, 0), address_of(1, 0, 0, 0),  address_of(255, 31, 7, 0),
                             address_of(1, 1, 0, 0)};
  for (const uint32_t base : absent) {
    for (uint32_t reg = 0; reg < 256; reg += 4) {
      bus_write<uint32_t>(ports, 0xcf8, base | reg);
      bus_write<uint32_t>(ports, 0xcfc, 0);
      ASSERT_EQ(conf(base | reg), 0xffffffffU);
    }
  }
  EXPECT_EQ(conf(address_of(0, 1, 0, 0) & 0x7fffffffU), 0xffffffffU) << "not enabled";
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + (2U << 15)), 0xffffffffU);
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + (1U << 15) + (1U << 12)), 0xffffffffU);
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + (1U << 20)), 0xffffffffU) << "bus 1";
  EXPECT_EQ(bus_read<uint32_t>(mmio, kEcam + (1U << 20) - 4), 0xffffffffU);
}

TEST_F(RootBusTest, EcamTakesAnyWidthAndAlignment) {
  const uint64_t device = kEcam + (1U << 15);
  bus_write<uint16_t>(mmio, device + kCommand, kCommandMemory);
  EXPECT_EQ(bus_read<uint8_t>(mmio, device + 1), 0x1a);
  EXPECT_EQ(bus_read<uint32_t>(mmio, device + 2), 0x00021042U) << "two dwords";
  EXPECT_EQ(bus_read<uint64_t>(mmio, device), 0x0000000210421af4U);
  EXPECT_EQ(bus_read<uint64_t>(mmio, device - 4), 0x10421af4ffffffffU)
      << "from an absent function into this one";
  EXPECT_EQ(bus_read<uint32_t>(mmio, device + 0x100), 0U) << "no extended capabilities";
  EXPECT_EQ(bus_read<uint32_t>(mmio, device + 0xffc), 0U);
  bus_write<uint64_t>(mmio, device + 0x0c, 0xd0000000000000ffU);
  EXPECT_EQ(bus_read<uint8_t>(mmio, 0xd0000000), 0x42) << "the second dword is the BAR";
}

constexpr uint64_t kDevice1 = kEcam + (1U << 15);

// ECAM is read from memory: it must be what an exit would have told, after each kind of write.
TEST_F(RootBusTest, PagesFollowTheRegisters) {
  ASSERT_TRUE(pages.has(kEcam) && pages.has(kDevice1));
  EXPECT_EQ(pages.shown.size(), 2U) << "what is absent costs an exit";
  EXPECT_EQ(pages.read<uint32_t>(kEcam, 0), 0x00081b36U);
  EXPECT_EQ(pages.read<uint32_t>(kDevice1, 0), 0x10421af4U);
  bus_write<uint32_t>(mmio, kDevice1 + 0x10, ~0U);
  EXPECT_EQ(pages.read<uint32_t>(kDevice1, 0x10), 0xfffff000U) << "the size of the BAR";
  bus_write<uint32_t>(mmio, kDevice1 + 0x10, 0xd0000000);
  conf(address_of(0, 1, 0, 0x3c));
  bus_write<uint8_t>(ports, 0xcfc, 0x0b);
  for (uint32_t at = 0; at < 4096; at += 4) {
    EXPECT_EQ(pages.read<uint32_t>(kDevice1, at), bus_read<uint32_t>(mmio, kDevice1 + at)) << at;
  }
}

// The status register tells of a wired interrupt, and that comes without a write.
TEST_F(RootBusTest, APageEndsWithTheFirstWiredInterrupt) {
  endpoint->intx().set_pending(true);
  EXPECT_FALSE(pages.has(kDevice1));
  EXPECT_EQ(bus_read<uint16_t>(mmio, kDevice1 + kStatus) & kStatusInterrupt, kStatusInterrupt);
  endpoint->intx().set_pending(false);
  endpoint->intx().set_pending(true);
  bus_write<uint8_t>(mmio, kDevice1 + 0x3c, 0x0c);
  EXPECT_EQ(bus_read<uint8_t>(mmio, kDevice1 + 0x3c), 0x0c);
  EXPECT_TRUE(pages.has(kEcam));
  root->reset();
  ASSERT_TRUE(pages.has(kDevice1));
  EXPECT_EQ(pages.read<uint8_t>(kDevice1, 0x3c), 17);
}

TEST_F(RootBusTest, AHostThatShowsNoPagesIsReadByExits) {
  Bus other_ports;
  Bus other_mmio;
  FakePages none;
  none.refuse = true;
  const auto other = RootBus::create(other_ports, other_mmio, doorbells,
                                     {.ecam = memory,
                                      .readable = none,
                                      .memory = {.base = kWindow, .size = 0x20000000},
                                      .ports = {.base = kPorts, .size = 0x4000},
                                      .intx = {&lines[0], &lines[1], &lines[2], &lines[3]}});
  ASSERT_TRUE(other);
  EXPECT_EQ(bus_read<uint32_t>(other_mmio, kEcam), 0x00081b36U);
}

TEST_F(RootBusTest, SlotsRunOut) {
  for (int i = 2; i <= 31; ++i) {
    const auto slot = root->take_slot();
    ASSERT_TRUE(slot);
    EXPECT_EQ(slot->device, i);
  }
  const auto full = root->take_slot();
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().message.find("31"), std::string::npos);
}

TEST_F(RootBusTest, InterruptsArriveAtTheInputOfTheSlot) {
  endpoint->intx().set_pending(true);  // device 1: GSI 17
  EXPECT_TRUE(lines[1].level);
  EXPECT_FALSE(lines[0].level);
}

TEST_F(RootBusTest, ResetIsPowerOn) {
  conf(address_of(0, 1, 0, 0x10));
  bus_write<uint32_t>(ports, 0xcfc, 0xd0000000);
  root->reset();
  EXPECT_EQ(bus_read<uint32_t>(ports, 0xcf8), 0U);
  EXPECT_EQ(bus_read<uint8_t>(mmio, kWindow), 0xff) << "not decoded";
  bus_write<uint16_t>(mmio, kEcam + (1U << 15) + kCommand, kCommandMemory);
  EXPECT_EQ(bus_read<uint8_t>(mmio, kWindow), 0x42);
  EXPECT_EQ(bus_read<uint8_t>(mmio, 0xd0000000), 0xff);
}

}  // namespace
}  // namespace vmm::pci
