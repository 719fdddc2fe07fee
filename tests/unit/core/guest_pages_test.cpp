// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/guest_pages.h"

#include <unistd.h>

#include <cstdio>

#include <gtest/gtest.h>

#include "tests/unit/resident_bytes.h"

namespace vmm {
namespace {

GuestMemory one_mib() {
  const GuestMemory::Range range{Gpa{0}, 1 << 20};
  auto memory = GuestMemory::create(std::span{&range, 1}, {.huge_pages = MemoryBacking::HugePages::none});
  EXPECT_TRUE(memory);
  return std::move(*memory);
}

TEST(GuestPages, FilePagesAreCopiedOnWrite) {
  const auto memory = one_mib();
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  const std::vector<char> bytes(size_t{3} * 4096, 'x');
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  ASSERT_EQ(std::fflush(file), 0);
  const int fd = ::fileno(file);
  EXPECT_TRUE(map_file_pages(memory.slice(Gpa{0x2000}, 0x2000).value(), fd, 0x1000));
  EXPECT_EQ(memory.load<char>(Gpa{0x1fff}), 0);
  EXPECT_EQ(memory.load<char>(Gpa{0x2000}), 'x');
  EXPECT_EQ(memory.load<char>(Gpa{0x3fff}), 'x');
  EXPECT_EQ(memory.load<char>(Gpa{0x4000}), 0);
  ASSERT_TRUE(memory.store(Gpa{0x2000}, 'y'));
  char in_file = 0;
  ASSERT_EQ(::pread(fd, &in_file, 1, 0x1000), 1);
  EXPECT_EQ(in_file, 'x');
  EXPECT_FALSE(map_file_pages(memory.slice(Gpa{0x2000}, 0x1000).value(), -1, 0));
  EXPECT_EQ(memory.load<char>(Gpa{0x2000}), 'y');
  std::fclose(file);
}

TEST(GuestPages, FilesAreMappedOnlyIntoPlainMemory) {
  using HugePages = MemoryBacking::HugePages;
  const GuestMemory::Range range{Gpa{0}, 2 << 20};
  const auto can = [&](const MemoryBacking& backing) {
    const auto memory = GuestMemory::create(std::span{&range, 1}, backing);
    return memory && memory->can_map_files();
  };
  EXPECT_TRUE(can({}));
  EXPECT_TRUE(can({.huge_pages = HugePages::none}));
  EXPECT_FALSE(can({.shared = true}));
  EXPECT_FALSE(can({.prefault = true}));
}

TEST(GuestPages, WhatWasTouchedForNothingGoesBack) {
  const auto memory = one_mib();
  const auto pages = memory.slice(Gpa{0x10000}, 0x8000).value();
  EXPECT_TRUE(is_zero(pages));
  EXPECT_TRUE(memory.discard(pages));
  const auto before = resident_bytes(memory);
  pages.zero();
  EXPECT_GT(resident_bytes(memory), before);
  EXPECT_TRUE(is_zero(pages));
  pages.store(0x7fff, 'x');
  EXPECT_FALSE(is_zero(pages));
  EXPECT_TRUE(memory.discard(pages));
  EXPECT_EQ(resident_bytes(memory), before);
  EXPECT_TRUE(is_zero(pages));
  // Only whole pages go.
  ASSERT_TRUE(memory.store(Gpa{0x10000}, 'x'));
  EXPECT_TRUE(memory.discard(pages.sub(1, 0x1000)));
  EXPECT_EQ(memory.load<char>(Gpa{0x10000}), 'x');
}

}  // namespace
}  // namespace vmm
