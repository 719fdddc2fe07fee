// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/scratch.h"

#include <gtest/gtest.h>

namespace vmm::legacy {
namespace {

template <class T>
T read(IoHandler& handler, uint64_t offset) {
  T value = static_cast<T>(~T{0});
  handler.read(offset, std::as_writable_bytes(std::span{&value, 1}));
  return value;
}

template <class T>
void write(IoHandler& handler, uint64_t offset, T value) {
  handler.write(offset, std::as_bytes(std::span{&value, 1}));
}

constexpr uint64_t kPortCounters = 0xFC0;
constexpr uint64_t kPageCounters = 0xFE0;

TEST(Scratch, PortsRememberBytes) {
  Scratch scratch;
  write<uint32_t>(scratch.ports(), 0, 0x44332211);
  write<uint8_t>(scratch.ports(), 1, 0xAA);
  EXPECT_EQ(read<uint32_t>(scratch.ports(), 0), 0x4433AA11U);
  EXPECT_EQ(read<uint16_t>(scratch.ports(), 2), 0x4433U);
}

TEST(Scratch, PageRemembersAllWidthsUnaligned) {
  Scratch scratch;
  write<uint64_t>(scratch.page(), 1, 0x8877665544332211);
  EXPECT_EQ(read<uint8_t>(scratch.page(), 8), 0x88U);
  EXPECT_EQ(read<uint32_t>(scratch.page(), 3), 0x66554433U);
}

TEST(Scratch, CountsEachWidthAndDirection) {
  Scratch scratch;
  write<uint8_t>(scratch.ports(), 0, 1);
  (void)read<uint32_t>(scratch.ports(), 0);
  (void)read<uint32_t>(scratch.ports(), 0);
  write<uint64_t>(scratch.page(), 0, 1);
  EXPECT_EQ(read<uint32_t>(scratch.page(), kPortCounters + 4 * 2), 2U);
  EXPECT_EQ(read<uint32_t>(scratch.page(), kPortCounters + 4 * 4), 1U);
  EXPECT_EQ(read<uint32_t>(scratch.page(), kPageCounters + 4 * 7), 1U);
  EXPECT_EQ(read<uint32_t>(scratch.page(), kPageCounters + 4 * 2), 0U) << "reading counters is not counted";
}

TEST(Scratch, AnyWriteToCountersClearsAll) {
  Scratch scratch;
  write<uint8_t>(scratch.ports(), 0, 1);
  write<uint8_t>(scratch.page(), 0, 1);
  write<uint32_t>(scratch.page(), kPageCounters, 77);
  for (uint64_t at = kPortCounters; at < 0x1000; at += 4)
    EXPECT_EQ(read<uint32_t>(scratch.page(), at), 0U) << at;
}

TEST(Scratch, AccessAcrossTheCountersEdgeStaysInside) {
  Scratch scratch;
  write<uint64_t>(scratch.page(), kPortCounters - 4, 0x8877665544332211);
  EXPECT_EQ(read<uint32_t>(scratch.page(), kPortCounters - 4), 0x44332211U);
  EXPECT_EQ(read<uint64_t>(scratch.page(), kPortCounters - 4) >> 32, 0xFFFFFFFFU)
      << "beyond the bytes: left as it came";
  EXPECT_EQ(read<uint64_t>(scratch.page(), 0x1000 - 8) >> 32, 1U) << "the store of 8 bytes was counted";
}

TEST(Scratch, WidthsNoInstructionHasAreNotCounted) {
  Scratch scratch;
  std::array<std::byte, 3> odd{};
  scratch.ports().write(0, odd);
  scratch.ports().write(15, std::span{odd}.first(0));
  for (uint64_t at = kPortCounters; at < kPageCounters; at += 4)
    EXPECT_EQ(read<uint32_t>(scratch.page(), at), 0U) << at;
}

TEST(Scratch, ResetForgets) {
  Scratch scratch;
  write<uint32_t>(scratch.ports(), 0, 5);
  scratch.reset();
  EXPECT_EQ(read<uint32_t>(scratch.ports(), 0), 0U);
  EXPECT_EQ(read<uint32_t>(scratch.page(), kPortCounters + 4 * 6), 0U);
}

}  // namespace
}  // namespace vmm::legacy
