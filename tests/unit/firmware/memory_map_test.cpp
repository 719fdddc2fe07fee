// SPDX-License-Identifier: Apache-2.0
#include "firmware/memory_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::make_memory;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kRam = MemoryType::ram;
constexpr auto kReserved = MemoryType::reserved;

TEST(MemoryMap, HasThePcsHole) {
  EXPECT_THAT(make_memory_map(make_memory(64), {}),
              ElementsAre(MemoryRange{Gpa{0}, 0x9fc00, kRam}, MemoryRange{Gpa{0x9fc00}, 0x60400, kReserved},
                          MemoryRange{Gpa{0x100000}, (64ULL << 20) - 0x100000, kRam}));
}

TEST(MemoryMap, LaysOthersOverRamAndWhereThereIsNone) {
  const std::array others{MemoryRange{Gpa{0x3ff0000}, 0x10000, MemoryType::acpi_tables},
                          MemoryRange{Gpa{0xe0000000}, 0x100000, kReserved}};
  EXPECT_THAT(make_memory_map(make_memory(64), others),
              ElementsAre(MemoryRange{Gpa{0}, 0x9fc00, kRam}, MemoryRange{Gpa{0x9fc00}, 0x60400, kReserved},
                          MemoryRange{Gpa{0x100000}, 0x3ef0000, kRam},
                          MemoryRange{Gpa{0x3ff0000}, 0x10000, MemoryType::acpi_tables},
                          MemoryRange{Gpa{0xe0000000}, 0x100000, kReserved}));
}

TEST(MemoryMap, LastOneWinsWhereRangesOverlap) {
  const std::array others{MemoryRange{Gpa{0xe0000}, 0x20000, kReserved},
                          MemoryRange{Gpa{0xe0000}, 0x1000, MemoryType::acpi_tables}};
  EXPECT_THAT(
      make_memory_map(make_memory(2), others),
      ElementsAre(MemoryRange{Gpa{0}, 0x9fc00, kRam}, MemoryRange{Gpa{0x9fc00}, 0x40400, kReserved},
                  MemoryRange{Gpa{0xe0000}, 0x1000, MemoryType::acpi_tables},
                  MemoryRange{Gpa{0xe1000}, 0x1f000, kReserved}, MemoryRange{Gpa{0x100000}, 0x100000, kRam}));
}

TEST(MemoryMap, KeepsRamAboveFourGiBApart) {
  const std::array ranges{GuestMemory::Range{Gpa{0}, 3ULL << 30},
                          GuestMemory::Range{Gpa{1ULL << 32}, 2ULL << 30}};
  const auto memory = GuestMemory::create(ranges);
  ASSERT_TRUE(memory);
  const auto map = make_memory_map(*memory, {});
  EXPECT_EQ(map.back(), (MemoryRange{Gpa{1ULL << 32}, 2ULL << 30, kRam}));
  EXPECT_TRUE(is_ram(map, Gpa{1ULL << 32}, 2ULL << 30));
  EXPECT_FALSE(is_ram(map, Gpa{(3ULL << 30) - 1}, 2));
}

TEST(MemoryMap, IsRamDoesNotWrap) {
  const auto map = make_memory_map(make_memory(64), {});
  EXPECT_TRUE(is_ram(map, Gpa{0x100000}, 0x1000));
  EXPECT_FALSE(is_ram(map, Gpa{0x9f000}, 0x1000));
  EXPECT_FALSE(is_ram(map, Gpa{0x100000}, ~0ULL));
  EXPECT_FALSE(is_ram(map, Gpa{~0ULL}, 2));
}

TEST(MemoryMap, TooLittleMemorySaysHowMuchIsNeeded) {
  const auto map = make_memory_map(make_memory(64), {});
  const auto short_of = check_ram(map, Gpa{0x1000000}, 0x3400001, "vmlinuz");
  ASSERT_FALSE(short_of);
  EXPECT_THAT(short_of.error().message, HasSubstr("it needs 69 MiB, the machine has 64; use --memory 69M"));
  const auto hole = check_ram(map, Gpa{0xa0000}, 1, "vmlinuz");
  ASSERT_FALSE(hole);
  EXPECT_THAT(hole.error().message, HasSubstr("at 0xa0000"));
  const auto wraps = check_ram(map, Gpa{~0ULL}, 16, "vmlinuz");
  ASSERT_FALSE(wraps);
}

TEST(MemoryMap, HighestFitIsAlignedAndInside) {
  const auto map = make_memory_map(make_memory(64), {});
  EXPECT_EQ(highest_fit(map, 0x1234, Gpa{0x100000}, Gpa{~0ULL}), Gpa{0x3ffe000});
  EXPECT_EQ(highest_fit(map, 0x1000, Gpa{0x100000}, Gpa{0x2000000}), Gpa{0x1fff000});
  EXPECT_EQ(highest_fit(map, 1ULL << 30, Gpa{0x100000}, Gpa{~0ULL}), std::nullopt);
  EXPECT_EQ(highest_fit(map, 0x1000, Gpa{0x3fff001}, Gpa{~0ULL}), std::nullopt);
  EXPECT_EQ(highest_fit(map, ~0ULL, Gpa{0}, Gpa{~0ULL}), std::nullopt);
}

}  // namespace
}  // namespace vmm::firmware
