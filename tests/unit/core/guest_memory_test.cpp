// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/resident_bytes.h"

namespace vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

GuestMemory two_regions() {
  const GuestMemory::Range ranges[] = {{Gpa{0}, kMiB}, {Gpa{4 * kMiB}, kMiB}};
  auto memory = GuestMemory::create(ranges);
  EXPECT_TRUE(memory);
  return std::move(*memory);
}

TEST(Gpa, PlusSaysWhenItWraps) {
  EXPECT_EQ(Gpa{1}.plus(2), Gpa{3});
  EXPECT_EQ(Gpa{~0ULL}.plus(0), Gpa{~0ULL});
  EXPECT_FALSE(Gpa{~0ULL}.plus(1));
}

TEST(GuestMemory, SliceIsTheBoundsCheck) {
  const auto memory = two_regions();
  EXPECT_TRUE(memory.slice(Gpa{0}, kMiB));
  EXPECT_TRUE(memory.slice(Gpa{kMiB - 1}, 1));
  EXPECT_TRUE(memory.slice(Gpa{5 * kMiB - 1}, 1));
  EXPECT_FALSE(memory.slice(Gpa{kMiB - 1}, 2));     // into the hole
  EXPECT_FALSE(memory.slice(Gpa{kMiB}, 1));         // in the hole
  EXPECT_FALSE(memory.slice(Gpa{0}, 5 * kMiB));     // across the hole
  EXPECT_FALSE(memory.slice(Gpa{5 * kMiB}, 0));     // past the end
  EXPECT_FALSE(memory.slice(Gpa{~0ULL - 15}, 32));  // wraps
  EXPECT_FALSE(memory.slice(Gpa{0}, ~0ULL));
}

TEST(GuestMemory, LoadsWhatWasStored) {
  const auto memory = two_regions();
  ASSERT_TRUE(memory.store(Gpa{4 * kMiB}, uint32_t{0x12345678}));
  EXPECT_EQ(memory.load<uint32_t>(Gpa{4 * kMiB}), 0x12345678U);
  EXPECT_EQ(memory.load<uint16_t>(Gpa{4 * kMiB + 2}), 0x1234);
  EXPECT_FALSE(memory.store(Gpa{5 * kMiB - 2}, uint32_t{0}));
  EXPECT_FALSE(memory.load<uint64_t>(Gpa{kMiB - 4}));
}

TEST(GuestMemory, PagesAreTakenOnFirstTouch) {
  const auto memory = two_regions();
  const auto before = resident_bytes(memory);
  ASSERT_TRUE(memory.store(Gpa{0x3000}, 1));
  EXPECT_GT(resident_bytes(memory), before);
  EXPECT_EQ(memory.size(), 2 * kMiB);
}

// ---- how it is taken, and given back

class BackedMemory : public testing::TestWithParam<MemoryBacking> {
 protected:
  static GuestMemory create(uint64_t size) {
    const GuestMemory::Range ranges[] = {{Gpa{0}, size}, {Gpa{1ULL << 32}, size}};
    return GuestMemory::create(ranges, GetParam()).value();
  }
};

INSTANTIATE_TEST_SUITE_P(All, BackedMemory,
                         testing::Values(MemoryBacking{},
                                         MemoryBacking{.huge_pages = MemoryBacking::HugePages::none},
                                         MemoryBacking{.shared = true}));

TEST_P(BackedMemory, IsZeroAndLiesLikeTheGuests) {
  const auto memory = create(3 * kMiB);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{3 * kMiB - 8}), 0U);
  for (const auto& region : memory.regions()) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(region.mapping.data()) % (2 * kMiB), 0U);
  }
}

TEST_P(BackedMemory, DiscardGivesWholePagesBack) {
  const auto memory = create(4 * kMiB);
  for (uint64_t at = 0; at < 4 * kMiB; at += 4096) ASSERT_TRUE(memory.store(Gpa{at}, at + 1));
  const auto before = resident_bytes(memory);
  EXPECT_GE(before, 4 * kMiB);
  // From the middle of one page to the middle of another: those two stay.
  EXPECT_TRUE(memory.discard(*memory.slice(Gpa{0x800}, 2 * kMiB)));
  EXPECT_EQ(resident_bytes(memory), before - (2 * kMiB - 4096));
  EXPECT_EQ(memory.load<uint64_t>(Gpa{0}), 1U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{0x1000}), 0U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{2 * kMiB - 4096}), 0U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{2 * kMiB}), 2 * kMiB + 1);
  // Less than a page: nothing to give.
  EXPECT_TRUE(memory.discard(*memory.slice(Gpa{2 * kMiB + 8}, 4096)));
  EXPECT_EQ(memory.load<uint64_t>(Gpa{2 * kMiB}), 2 * kMiB + 1);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{2 * kMiB + 4096}), 2 * kMiB + 4097);
}

TEST(GuestMemory, PrefaultTakesEveryPage) {
  const GuestMemory::Range ranges[] = {{Gpa{0}, 130 * kMiB}, {Gpa{1ULL << 32}, kMiB}};
  const auto memory = GuestMemory::create(ranges, {.prefault = true}).value();
  EXPECT_EQ(resident_bytes(memory), 131 * kMiB);
}

// The host's pool is empty or not; a refusal says how many pages it has and how it gets more.
TEST(GuestMemory, ReservedHugePagesAreTakenOrRefused) {
  const GuestMemory::Range ranges[] = {{Gpa{0}, 1ULL << 50}};
  const auto memory = GuestMemory::create(ranges, {.huge_pages = MemoryBacking::HugePages::reserved});
  ASSERT_FALSE(memory);
  EXPECT_THAT(memory.error().message, testing::HasSubstr("take 536870912 huge pages of 2 MiB"));
  EXPECT_THAT(memory.error().message, testing::HasSubstr("nr_hugepages"));
}

TEST(GuestSlice, RingIndices) {
  const auto memory = two_regions();
  const auto at = memory.slice(Gpa{0x1000}, 16);
  ASSERT_TRUE(at);
  at->store_release16(2, 0xbeef);
  EXPECT_EQ(at->load_acquire16(2), 0xbeef);
  EXPECT_EQ(at->sub(2, 2).load<uint16_t>(0), 0xbeef);
}

}  // namespace
}  // namespace vmm
