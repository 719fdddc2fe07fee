// SPDX-License-Identifier: Apache-2.0
#include "firmware/kaslr.h"

#include <set>

#include <gtest/gtest.h>

namespace vmm::firmware {
namespace {

constexpr uint64_t kMiB = 1 << 20;

KaslrRequest request_of(uint64_t room, uint64_t ceiling) {
  return {.linked = Gpa{16 * kMiB}, .room = room, .alignment = 2 * kMiB, .ceiling = Gpa{ceiling}};
}

TEST(ChooseBase, EveryPlaceAndNoOther) {
  const std::vector<MemoryRange> map = {{Gpa{0}, 0xa0000, MemoryType::ram},
                                        {Gpa{0xa0000}, 0x60000, MemoryType::reserved},
                                        {Gpa{kMiB}, 63 * kMiB, MemoryType::ram}};
  std::set<uint64_t> bases;
  for (uint64_t random = 0; random < 100; ++random) {
    const auto base = choose_base(map, request_of(20 * kMiB, 60 * kMiB), random);
    ASSERT_TRUE(base);
    bases.insert(base->raw);
  }
  EXPECT_EQ(*bases.begin(), 16 * kMiB);
  EXPECT_EQ(*bases.rbegin(), 40 * kMiB);
  EXPECT_EQ(bases.size(), 13U);
  for (const uint64_t base : bases) EXPECT_EQ(base % (2 * kMiB), 0U);
}

TEST(ChooseBase, SeveralRangesBelowFourGiB) {
  const std::vector<MemoryRange> map = {{Gpa{0}, 40 * kMiB, MemoryType::ram},
                                        {Gpa{40 * kMiB}, 8 * kMiB, MemoryType::reserved},
                                        {Gpa{49 * kMiB}, 40 * kMiB, MemoryType::ram},
                                        {Gpa{4096 * kMiB}, 4096 * kMiB, MemoryType::ram}};
  std::set<uint64_t> bases;
  for (uint64_t random = 0; random < 100; ++random)
    bases.insert(choose_base(map, request_of(24 * kMiB, ~0ULL), random).value().raw);
  EXPECT_EQ(bases, (std::set<uint64_t>{16 * kMiB, 50 * kMiB, 52 * kMiB, 54 * kMiB, 56 * kMiB, 58 * kMiB,
                                       60 * kMiB, 62 * kMiB, 64 * kMiB}));
}

TEST(ChooseBase, NoneWhereNothingFits) {
  const std::vector<MemoryRange> map = {{Gpa{0}, 64 * kMiB, MemoryType::ram}};
  EXPECT_TRUE(choose_base(map, request_of(48 * kMiB, ~0ULL), 7));
  EXPECT_FALSE(choose_base(map, request_of(48 * kMiB + 1, ~0ULL), 7));
  EXPECT_FALSE(choose_base(map, request_of(kMiB, 16 * kMiB), 7));
  EXPECT_FALSE(choose_base(map, request_of(~0ULL, ~0ULL), 7));
  EXPECT_FALSE(choose_base({}, request_of(kMiB, ~0ULL), 7));
}

TEST(ChooseBase, LinkedHighMayComeLower) {
  // As the kernel's own code: from 512 MiB on, however high it is linked.
  const std::vector<MemoryRange> map = {{Gpa{0}, 1024 * kMiB, MemoryType::ram}};
  auto request = request_of(kMiB, ~0ULL);
  request.linked = Gpa{900 * kMiB};
  EXPECT_EQ(choose_base(map, request, 0)->raw, 512 * kMiB);
}

TEST(ChooseSlide, StaysInTheKernelsGiB) {
  std::set<uint64_t> slides;
  for (uint64_t random = 0; random < 1000; ++random) {
    slides.insert(choose_slide(request_of(52 * kMiB, 0), random));
  }
  EXPECT_EQ(*slides.begin(), 0U);
  EXPECT_EQ(*slides.rbegin(), (1024 - 16 - 52) * kMiB);
  EXPECT_EQ(slides.size(), (1024U - 16 - 52) / 2 + 1);
  EXPECT_EQ(choose_slide(request_of(1009 * kMiB, 0), 5), 0U);
  EXPECT_EQ(choose_slide(request_of(~0ULL, 0), 5), 0U);
  auto high = request_of(kMiB, 0);
  high.linked = Gpa{~0ULL};
  EXPECT_EQ(choose_slide(high, 5), 0U);
}

TEST(KaslrWish, WordsOfTheCommandLine) {
  EXPECT_TRUE(read_kaslr_wish("console=ttyS0 quiet").any);
  EXPECT_TRUE(read_kaslr_wish("").any);
  EXPECT_FALSE(read_kaslr_wish("nokaslr").any);
  EXPECT_FALSE(read_kaslr_wish("quiet\tnokaslr").any);
  EXPECT_FALSE(read_kaslr_wish("  nokaslr  quiet").any);
  EXPECT_TRUE(read_kaslr_wish("nokaslr2 xnokaslr init=/nokaslr").any);
  EXPECT_TRUE(read_kaslr_wish("quiet").physical);
  EXPECT_FALSE(read_kaslr_wish("quiet mem=100M").physical);
  EXPECT_FALSE(read_kaslr_wish("memmap=10M$64M").physical);
}

}  // namespace
}  // namespace vmm::firmware
