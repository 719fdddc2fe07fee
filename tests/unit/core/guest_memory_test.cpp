// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/guest_memory.h"

#include <gtest/gtest.h>

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
  const auto before = memory.resident_bytes();
  ASSERT_TRUE(memory.store(Gpa{0x3000}, 1));
  EXPECT_GT(memory.resident_bytes(), before);
  EXPECT_EQ(memory.size(), 2 * kMiB);
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
