// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/config_space.h"

#include <gtest/gtest.h>

namespace vmm::pci {
namespace {

constexpr Identity kSome{.vendor = 0x1af4,
                         .device = 0x1042,
                         .revision = 1,
                         .class_code = 0x018000,
                         .subsystem_vendor = 0x1af4,
                         .subsystem = 0x1100};

template <typename T>
void guest_write(ConfigSpace& config, size_t offset, T value) {
  config.write(offset, std::as_bytes(std::span{&value, 1}));
}

TEST(ConfigSpace, HeaderNamesTheFunction) {
  const ConfigSpace config{kSome};
  EXPECT_EQ(config.get<uint32_t>(0x00), 0x10421af4U);
  EXPECT_EQ(config.get<uint32_t>(0x08), 0x01800001U);
  EXPECT_EQ(config.get<uint32_t>(0x2c), 0x11001af4U);
  EXPECT_EQ(config.get<uint8_t>(kHeaderType), 0);
  EXPECT_EQ(config.get<uint16_t>(kStatus) & kStatusCapabilities, 0);
}

TEST(ConfigSpace, GuestChangesOnlyWritableBits) {
  ConfigSpace config{kSome};
  for (size_t offset = 0; offset < ConfigSpace::kSize; offset += 4)
    guest_write<uint32_t>(config, offset, ~0U);
  EXPECT_EQ(config.get<uint32_t>(0x00), 0x10421af4U);
  EXPECT_EQ(config.get<uint16_t>(kCommand),
            kCommandIo | kCommandMemory | kCommandBusMaster | kCommandIntxDisable);
  EXPECT_EQ(config.get<uint32_t>(0x08), 0x01800001U);
  EXPECT_EQ(config.get<uint8_t>(kCacheLineSize), 0xff);
  EXPECT_EQ(config.get<uint8_t>(kInterruptLine), 0xff);
  EXPECT_EQ(config.get<uint8_t>(kInterruptPin), 0);
  for (size_t offset = 0x40; offset < ConfigSpace::kSize; offset += 4)
    EXPECT_EQ(config.get<uint32_t>(offset), 0U);
}

TEST(ConfigSpace, WrittenOneClears) {
  ConfigSpace config{kSome};
  config.set_clear_on_one<uint16_t>(0x50, 0x0ff0);
  config.set<uint16_t>(0x50, 0xffff);
  guest_write<uint16_t>(config, 0x50, 0x0000);
  EXPECT_EQ(config.get<uint16_t>(0x50), 0xffff);
  guest_write<uint16_t>(config, 0x50, 0x003c);
  EXPECT_EQ(config.get<uint16_t>(0x50), 0xffcf);
  guest_write<uint8_t>(config, 0x51, 0xff);  // one byte of the register
  EXPECT_EQ(config.get<uint16_t>(0x50), 0xf0cf);
}

TEST(ConfigSpace, CapabilitiesAreAList) {
  ConfigSpace config{kSome};
  const std::array<std::byte, 14> long_body{std::byte{0xaa}};
  const std::array<std::byte, 3> short_body{std::byte{1}, std::byte{2}, std::byte{3}};
  const std::array<std::byte, 3> writable{std::byte{0}, std::byte{0xf0}, std::byte{0}};
  const auto first = config.add_capability(0x09, long_body);
  const auto second = config.add_capability(0x11, short_body, writable);
  EXPECT_EQ(first, 0x40);
  EXPECT_EQ(second, 0x50);
  EXPECT_EQ(config.get<uint16_t>(kStatus) & kStatusCapabilities, kStatusCapabilities);
  EXPECT_EQ(config.get<uint8_t>(kCapabilities), second);
  EXPECT_EQ(config.get<uint16_t>(second), 0x4011);
  EXPECT_EQ(config.get<uint16_t>(first), 0x0009);
  EXPECT_EQ(config.get<uint8_t>(0x42), 0xaa);
  guest_write<uint32_t>(config, second, ~0U);
  EXPECT_EQ(config.get<uint32_t>(second), 0xf2014011U);
  EXPECT_EQ(config.add_capability(0x05, {}), 0x58);  // 2 + 3 bytes take two dwords
}

}  // namespace
}  // namespace vmm::pci
