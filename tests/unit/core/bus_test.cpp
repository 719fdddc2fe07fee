// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/bus.h"

#include <array>

#include <gtest/gtest.h>

namespace vmm {
namespace {

struct Recorder : IoHandler {
  void read(uint64_t offset, std::span<std::byte> out) override {
    last_offset = offset;
    for (auto& byte : out) byte = std::byte{0x5a};
  }
  void write(uint64_t offset, std::span<const std::byte> in) override {
    last_offset = offset;
    last_size = in.size();
    if (on_write) on_write();
  }
  uint64_t last_offset = ~0ULL;
  size_t last_size = 0;
  std::function<void()> on_write;
};

uint32_t read32(Bus& bus, uint64_t address) {
  uint32_t value = 0;
  bus.read(address, std::as_writable_bytes(std::span{&value, 1}));
  return value;
}

TEST(Bus, HandlerSeesOffsets) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x1000, 0x100, device, "dev"));
  EXPECT_EQ(read32(bus, 0x1010), 0x5a5a5a5aU);
  EXPECT_EQ(device.last_offset, 0x10U);
}

TEST(Bus, UnmappedReadsAllOnesAndIsCounted) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x1000, 0x100, device, "dev"));
  EXPECT_EQ(read32(bus, 0xfff), 0xffffffffU);   // begins before the range
  EXPECT_EQ(read32(bus, 0x10fe), 0xffffffffU);  // ends after it
  EXPECT_EQ(read32(bus, 0x1100), 0xffffffffU);
  EXPECT_EQ(read32(bus, ~0ULL), 0xffffffffU);
  const auto counts = bus.counts();
  EXPECT_EQ(counts.back().name, "unmapped");
  EXPECT_EQ(counts.back().reads, 4U);
  EXPECT_EQ(counts.front().reads, 0U);
}

TEST(Bus, OverlapsAreRefused) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x1000, 0x100, device, "a"));
  EXPECT_FALSE(bus.map(0x10ff, 1, device, "b"));
  EXPECT_FALSE(bus.map(0xfff, 2, device, "b"));
  EXPECT_FALSE(bus.map(0x0, 0x10000, device, "b"));
  EXPECT_FALSE(bus.map(0x2000, 0, device, "b"));
  EXPECT_FALSE(bus.map(~0ULL, 2, device, "b"));
  EXPECT_TRUE(bus.map(0x1100, 1, device, "b"));
  EXPECT_TRUE(bus.map(~0ULL, 1, device, "last byte"));
}

// A PCI BAR moves from within a handler: the bus must hold no lock while it calls one.
TEST(Bus, HandlerMayRemap) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x1000, 0x100, device, "dev"));
  device.on_write = [&] {
    bus.unmap(0x1000);
    ASSERT_TRUE(bus.map(0x2000, 0x100, device, "dev"));
  };
  const std::array<std::byte, 2> two{};
  bus.write(0x1000, two);
  EXPECT_EQ(read32(bus, 0x1000), 0xffffffffU);
  EXPECT_EQ(read32(bus, 0x2000), 0x5a5a5a5aU);
}

}  // namespace
}  // namespace vmm
