// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/memory_use.h"

#include <unistd.h>

#include <cstdio>
#include <vector>

#include <gtest/gtest.h>

#include "vmm/core/guest_pages.h"

namespace vmm {
namespace {

constexpr MemoryBacking kSmallPages{.huge_pages = MemoryBacking::HugePages::none};

TEST(MemoryUse, CountsWhatTheGuestTouched) {
  const GuestMemory::Range ranges[] = {{Gpa{0}, 16 << 20}, {Gpa{1ULL << 32}, 16 << 20}};
  const auto memory = GuestMemory::create(ranges, kSmallPages);
  ASSERT_TRUE(memory);
  const auto before = measure_memory(*memory);
  EXPECT_EQ(before.guest, 0U);
  EXPECT_GT(before.beside(), 0U);
  memory->slice(Gpa{0x3000}, 0x5000).value().zero();
  ASSERT_TRUE(memory->store(Gpa{(1ULL << 32) + 0x1000}, 1));
  const auto after = measure_memory(*memory);
  EXPECT_EQ(after.guest, 0x6000U);
  EXPECT_LT(after.beside(), before.beside() + (1 << 20));
}

TEST(MemoryUse, TellsTheProgramTheHeapAndTheRestApart) {
  const GuestMemory::Range range{Gpa{0}, 16 << 20};
  const auto memory = GuestMemory::create(std::span{&range, 1}, kSmallPages);
  ASSERT_TRUE(memory);
  const auto before = measure_memory(*memory);
  EXPECT_GT(before.program, 64U << 10);
  constexpr size_t kSize = 8 << 20;  // more than malloc(3) takes from the heap
  const std::vector<char> buffer(kSize, 'x');
  const auto after = measure_memory(*memory);
  EXPECT_GE(after.other, before.other + kSize);
  EXPECT_LT(after.heap, before.heap + kSize);
  EXPECT_LT(after.program, before.program + (1 << 20));
}

TEST(MemoryUse, MappedPagesCountOnceTouched) {
  const GuestMemory::Range range{Gpa{0}, 16 << 20};
  const auto memory = GuestMemory::create(std::span{&range, 1}, kSmallPages);
  ASSERT_TRUE(memory);
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  const std::vector<char> bytes(4 << 20, 'x');
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  ASSERT_EQ(std::fflush(file), 0);
  const auto pages = memory->slice(Gpa{0}, bytes.size()).value();
  ASSERT_TRUE(map_file_pages(pages, ::fileno(file), 0));
  EXPECT_EQ(measure_memory(*memory).guest, 0U);  // though the host has all of it in its cache
  pages.sub(0x10000, 0x4000).zero();
  EXPECT_EQ(measure_memory(*memory).guest, 0x4000U);
  std::fclose(file);
}

}  // namespace
}  // namespace vmm
