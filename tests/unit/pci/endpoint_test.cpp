// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/endpoint.h"

#include <array>
#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/pci/fakes.h"

namespace vmm::pci {
namespace {

constexpr uint64_t kBase = 0xc0000000;
constexpr uint64_t kPorts = 0xc000;

struct EndpointTest : testing::Test {
  EndpointTest() {
    EXPECT_TRUE(endpoint.add_bar(0, Endpoint::BarKind::memory64, 0x8000, wide));
    EXPECT_TRUE(endpoint.add_bar(2, Endpoint::BarKind::memory32, 0x1000, narrow));
    EXPECT_TRUE(endpoint.add_bar(3, Endpoint::BarKind::io, 8, io));
    endpoint.add_msix(msix, {.bar = 0, .table = 0x1000, .pending_bits = 0x2000});
    endpoint.power_on();
    put<uint16_t>(kCommand, kCommandMemory);
  }
  template <typename T = uint32_t>
  T get(uint16_t offset) {
    T value = 0;
    endpoint.read_config(offset, std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }
  template <typename T = uint32_t>
  void put(uint16_t offset, T value) {
    endpoint.write_config(offset, std::as_bytes(std::span{&value, 1}));
  }
  uint8_t at(uint64_t address) { return bus_read<uint8_t>(mmio, address); }
  uint8_t port(uint64_t number) { return bus_read<uint8_t>(port_bus, number); }

  Bus mmio;
  Bus port_bus;
  FakeDoorbells doorbells;
  BarSpace space{BarSpace::Kind::mmio, mmio, doorbells, {.base = kBase, .size = 0x20000000}};
  BarSpace ports{BarSpace::Kind::port, port_bus, doorbells, {.base = kPorts, .size = 0x4000}};
  FakeIrqLine line;
  IntxWire wire{line};
  FakeMsiSink sink;
  Msix msix{sink, 3, "dev0"};
  FakeRegisters wide{0x64};
  FakeRegisters narrow{0x32};
  FakeRegisters io{0x10};
  Endpoint endpoint{"dev0", Slot{.device = 5, .memory = space, .ports = ports, .wire = wire},
                    Identity{.vendor = 0x1af4, .device = 0x1041}};
};

TEST_F(EndpointTest, PowerOnIsAsAFirmwareLeavesIt) {
  endpoint.reset();
  EXPECT_EQ(get<uint16_t>(kCommand), 0);
  EXPECT_EQ(at(kBase), 0xff) << "placed, and not yet decoded";
  put<uint16_t>(kCommand, kCommandMemory);
  EXPECT_EQ(get(0x10), kBase | 4);
  EXPECT_EQ(get(0x14), 0U);
  EXPECT_EQ(get(0x18), kBase + 0x8000);
  EXPECT_EQ(at(kBase), 0x64);
  EXPECT_EQ(at(kBase + 0x8000), 0x32);
  EXPECT_EQ(get<uint8_t>(kInterruptPin), 1);
  EXPECT_EQ(get<uint8_t>(kInterruptLine), 17);
  const auto cap = get<uint8_t>(kCapabilities);
  EXPECT_EQ(get<uint16_t>(cap), 0x0011);
  EXPECT_EQ(get<uint16_t>(cap + 2), 2);
  EXPECT_EQ(get(cap + 4), 0x1000U);
  EXPECT_EQ(get(cap + 8), 0x2000U);
}

TEST_F(EndpointTest, SizingTellsTheSize) {
  put<uint16_t>(kCommand, 0);
  put(0x10, ~0U);
  put(0x14, ~0U);
  EXPECT_EQ(get(0x10), 0xffff8004U);
  EXPECT_EQ(get(0x14), 0xffffffffU);
  put(0x18, ~0U);
  EXPECT_EQ(get(0x18), 0xfffff000U);
  put(0x1c, ~0U);
  EXPECT_EQ(get(0x1c), 0xfffffff9U);
  for (const uint16_t absent : std::to_array<uint16_t>({0x20, 0x24, 0x30})) {
    put(absent, ~0U);
    EXPECT_EQ(get(absent), 0U);
  }
  EXPECT_EQ(at(kBase), 0xff);
}

TEST_F(EndpointTest, SizingWithDecodingOnIsNoFault) {
  put(0x18, ~0U);
  EXPECT_EQ(at(kBase + 0x8000), 0xff);
  put(0x18, static_cast<uint32_t>(kBase + 0x8000));
  EXPECT_EQ(at(kBase + 0x8000), 0x32);
  EXPECT_EQ(space.refused(), 0U);
}

// HG35: between its two writes a 64-bit BAR has an address nobody meant.
TEST_F(EndpointTest, HalfWritten64BitBar) {
  put(0x14, 1U);
  EXPECT_EQ(at(kBase), 0xff);
  EXPECT_EQ(at((1ULL << 32) + kBase), 0xff);
  put(0x10, 0xd0000000U);
  EXPECT_EQ(at(0xd0000000), 0xff);
  put(0x14, 0U);
  EXPECT_EQ(at(0xd0000000), 0x64);
  put<uint8_t>(0x12, 0x10);  // one byte of it
  EXPECT_EQ(at(0xd0100000), 0x64);
  EXPECT_EQ(at(0xd0000000), 0xff);
}

// HG35: onto RAM, the local APIC, the other BAR of the same function, and back.
TEST_F(EndpointTest, BadPlacesAreNotDecoded) {
  for (const uint32_t address : {0x00100000U, 0xfee00000U, 0xfec00000U, 0xe0000000U, 0xc0002000U}) {
    put(0x18, address);
    EXPECT_EQ(get(0x18), address) << "the register says what was written";
    EXPECT_NE(at(address), 0x32);
    EXPECT_EQ(at(kBase), 0x64);
  }
  EXPECT_EQ(space.refused(), 5U);
  put(0x18, 0xdffff000U);
  EXPECT_EQ(at(0xdffff000), 0x32);
}

TEST_F(EndpointTest, MemoryDecodingIsSwitchedByTheCommandRegister) {
  endpoint.bar(0).add_doorbell(0x3000, 0, 3);
  for (int i = 0; i < 10000; ++i) {
    put<uint16_t>(kCommand, 0);
    ASSERT_EQ(at(kBase), 0xff);
    put<uint16_t>(kCommand, kCommandMemory | kCommandBusMaster);
    ASSERT_EQ(at(kBase), 0x64);
  }
  EXPECT_EQ(doorbells.bound.size(), 1U);
  EXPECT_EQ(doorbells.unknown, 0);
}

// HG35: ports have a window and a switch of their own.
TEST_F(EndpointTest, IoBarIsDecodedInItsWindowOnly) {
  EXPECT_EQ(get(0x1c), kPorts | 1);
  EXPECT_EQ(port(kPorts), 0xff) << "memory decoding is not its switch";
  put<uint16_t>(kCommand, kCommandIo);
  EXPECT_EQ(port(kPorts), 0x10);
  EXPECT_EQ(at(kBase), 0xff);
  endpoint.bar(3).add_doorbell(4, 0, 7);
  put(0x1c, 0xfff8U);
  EXPECT_EQ(port(0xffff), 0x10);
  ASSERT_EQ(doorbells.bound.size(), 1U);
  EXPECT_EQ(doorbells.bound[0].first.address, 0xfffcU);
  EXPECT_EQ(doorbells.bound[0].first.space, DoorbellAddress::Space::port);
  for (const uint32_t elsewhere : {0x3f8U, 0x600U, 0xcf8U, 0xbff8U, 0x10000U, 0xfffffff8U}) {
    put(0x1c, elsewhere);
    EXPECT_EQ(port(elsewhere), 0xff) << elsewhere;
    EXPECT_TRUE(doorbells.bound.empty());
  }
  EXPECT_EQ(ports.refused(), 5U) << "all but the last, which asks for the size";
  put(0x1c, 0xc000U);
  EXPECT_EQ(port(0xc000), 0x10);
}

TEST_F(EndpointTest, InterruptStatusAndDisable) {
  endpoint.intx().set_pending(true);
  EXPECT_TRUE(line.level);
  EXPECT_EQ(get<uint16_t>(kStatus) & kStatusInterrupt, kStatusInterrupt);
  EXPECT_EQ(get<uint8_t>(kStatus) & kStatusInterrupt, kStatusInterrupt);
  EXPECT_EQ((get(kCommand) >> 16) & kStatusInterrupt, kStatusInterrupt);
  EXPECT_EQ(get<uint8_t>(kStatus + 1), 0);
  put<uint16_t>(kCommand, kCommandMemory | kCommandIntxDisable);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(get<uint16_t>(kStatus) & kStatusInterrupt, kStatusInterrupt)
      << "mirrors the function, not the pin";
  put<uint16_t>(kCommand, kCommandMemory);
  EXPECT_TRUE(line.level);
  put<uint16_t>(kStatus, 0xffff);
  EXPECT_TRUE(line.level) << "read-only";
  endpoint.intx().set_pending(false);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(get<uint16_t>(kStatus) & kStatusInterrupt, 0);
}

TEST_F(EndpointTest, MsixControlTakesEffect) {
  const auto cap = get<uint8_t>(kCapabilities);
  endpoint.intx().set_pending(true);
  put<uint16_t>(cap + 2, Msix::kControlEnable | Msix::kControlMask | 0x7ff);
  EXPECT_EQ(get<uint16_t>(cap + 2), Msix::kControlEnable | Msix::kControlMask | 2) << "the size is read-only";
  EXPECT_TRUE(msix.enabled());
  EXPECT_FALSE(line.level) << "no INTx while MSI-X is on";
  write_as<uint32_t>(msix.table(), 12, 0);
  msix.signal(0);
  EXPECT_TRUE(sink.delivered.empty());
  put<uint16_t>(cap + 2, Msix::kControlEnable);
  EXPECT_EQ(sink.delivered.size(), 1U);
  put<uint8_t>(cap + 3, 0);  // one byte of the register
  EXPECT_FALSE(msix.enabled());
  EXPECT_TRUE(line.level);
}

TEST_F(EndpointTest, ResetIsPowerOn) {
  const auto cap = get<uint8_t>(kCapabilities);
  put(0x18, 0xd0000000U);
  put<uint16_t>(kCommand, 0);
  put<uint16_t>(cap + 2, Msix::kControlEnable);
  endpoint.intx().set_pending(true);
  endpoint.reset();
  EXPECT_EQ(get<uint16_t>(kCommand), 0);
  put<uint16_t>(kCommand, kCommandMemory);
  EXPECT_EQ(at(kBase), 0x64);
  EXPECT_EQ(at(kBase + 0x8000), 0x32);
  EXPECT_FALSE(msix.enabled());
  EXPECT_FALSE(line.level);
}

// Every byte written with everything, by two vCPUs, while a third uses the BAR (HG30, HG35).
TEST_F(EndpointTest, ConcurrentScribbling) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([this, t] {
      for (uint32_t i = 0; i < 20000; ++i)
        put<uint8_t>(static_cast<uint16_t>(i % 256), static_cast<uint8_t>(i * 37 + static_cast<uint32_t>(t)));
    });
  }
  threads.emplace_back([this] {
    for (int i = 0; i < 20000; ++i) static_cast<void>(at(kBase));
  });
  threads.clear();
  endpoint.reset();
  put<uint16_t>(kCommand, kCommandMemory);
  EXPECT_EQ(at(kBase), 0x64);
  EXPECT_EQ(get(0), 0x10411af4U);
}

}  // namespace
}  // namespace vmm::pci
