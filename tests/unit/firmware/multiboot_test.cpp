// SPDX-License-Identifier: Apache-2.0
#include "firmware/multiboot.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "firmware/boot_layout.h"
#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::Bytes;
using test::load;
using test::make_memory;
using test::poke;
using testing::HasSubstr;

constexpr uint32_t kMagic = 0x1badb002;

void put_header(Bytes& bytes, size_t offset, uint32_t flags) {
  poke(bytes, offset, kMagic);
  poke(bytes, offset + 4, flags);
  poke(bytes, offset + 8, 0U - kMagic - flags);
}

Bytes elf_kernel(uint32_t flags, bool is64 = false) {
  test::TestElf elf{.is64 = is64,
                    .machine = static_cast<uint16_t>(is64 ? 62 : 3),
                    .entry = 0x100010,
                    .segments = {},
                    .notes = {}};
  Bytes code = test::pattern(3000);
  put_header(code, 0, flags);
  elf.segments.push_back({.physical = 0x100000, .data = code, .memory_size = 0x8000, .virtual_base = 0});
  return make_elf(elf);
}

// A file that is no ELF: its header says where it goes.
Bytes raw_kernel(size_t header_at, uint32_t load_address, uint32_t load_end, uint32_t bss_end,
                 uint32_t entry) {
  Bytes bytes = test::pattern(6000);
  put_header(bytes, header_at, 1U << 16);
  poke(bytes, header_at + 12, static_cast<uint32_t>(load_address + header_at));
  poke(bytes, header_at + 16, load_address);
  poke(bytes, header_at + 20, load_end);
  poke(bytes, header_at + 24, bss_end);
  poke(bytes, header_at + 28, entry);
  return bytes;
}

std::string error_of(const Bytes& image) {
  const auto loaded = load(image, make_memory(16));
  return loaded ? "loaded" : loaded.error().message;
}

TEST(Multiboot, EntersElfOfBothClasses) {
  for (const bool is64 : {false, true}) {
    const auto loaded = load(elf_kernel(3, is64), make_memory(16));
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->boot.mode, BootState::Mode::protected32);
    EXPECT_EQ(loaded->boot.rip, 0x100010U);
    EXPECT_EQ(loaded->boot.rax, 0x2badb002U);
    EXPECT_EQ(loaded->boot.rbx, kInfo.raw);
  }
}

TEST(Multiboot, Describes) {
  const test::TempFile module{test::pattern(5000)};
  const auto memory = make_memory(16);
  ASSERT_TRUE(load(elf_kernel(3), memory, {.command_line = "a b", .initrd = module.path()}));
  const auto at = [&](uint64_t offset) { return memory.load<uint32_t>(Gpa{kInfo.raw + offset}).value(); };
  const auto text = [&](uint64_t address) {
    std::string found;
    for (; *memory.load<char>(Gpa{address}) != '\0'; ++address) found += *memory.load<char>(Gpa{address});
    return found;
  };
  EXPECT_EQ(at(0), 0x24dU);  // memory, command line, modules, map, name
  EXPECT_EQ(at(4), 639U);
  EXPECT_EQ(at(8), 15U * 1024);
  EXPECT_EQ(text(at(16)), "a b");
  ASSERT_EQ(at(20), 1U);
  const auto entry = [&](uint64_t offset) { return memory.load<uint32_t>(Gpa{at(24) + offset}).value(); };
  EXPECT_EQ(entry(0) % 4096, 0U);
  EXPECT_EQ(entry(4) - entry(0), 5000U);
  EXPECT_EQ(text(entry(8)), module.path());
  EXPECT_EQ(at(44), 3U * 24);
  EXPECT_EQ(memory.load<uint32_t>(Gpa{at(48)}), 20U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{at(48) + 2 * 24 + 4}), kOneMiB);
  EXPECT_EQ(text(at(64)), "vmm");
}

TEST(Multiboot, AddressFieldsDecide) {
  const auto memory = make_memory(16);
  const auto image = raw_kernel(4096, 0x200000, 0, 0x210000, 0x200100);
  const auto loaded = load(image, memory);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->boot.rip, 0x200100U);
  Bytes there(image.size());
  ASSERT_TRUE(memory.read(Gpa{0x200000}, there));
  EXPECT_TRUE(there == image);
}

TEST(Multiboot, HostileAddressFields) {
  EXPECT_EQ(error_of(raw_kernel(64, 0x200000, 0x200800, 0x201000, 0x200000)), "loaded");
  EXPECT_THAT(error_of(raw_kernel(64, 0x200000, 0x300000, 0, 0x200000)), HasSubstr("truncated"));
  EXPECT_THAT(error_of(raw_kernel(64, 0x200000, 0x100000, 0, 0x200000)), HasSubstr("truncated"));
  EXPECT_THAT(error_of(raw_kernel(64, 0x200000, 0, 0, 0x100000)), HasSubstr("outside of what it loads"));
  EXPECT_THAT(error_of(raw_kernel(64, 0x200000, 0, 0xffffffff, 0x200000)), HasSubstr("needs"));
  EXPECT_THAT(error_of(raw_kernel(64, 0xffffff00, 0, 0, 0xffffff00)), HasSubstr("needs"));
  EXPECT_THAT(error_of(raw_kernel(64, 0, 0, 0, 0)), HasSubstr("link it higher"));
  auto image = raw_kernel(64, 0x200000, 0, 0, 0x200000);
  poke(image, 64 + 12, uint32_t{0x1fffff});  // the header before the image
  EXPECT_THAT(error_of(image), HasSubstr("cannot be at"));
  poke(image, 64 + 12, uint32_t{0x200041});  // further from its start than in the file
  EXPECT_THAT(error_of(image), HasSubstr("cannot be at"));
}

TEST(Multiboot, HeaderIsLookedForInTheFirst8KiB) {
  Bytes bytes = test::pattern(16384);
  EXPECT_FALSE(find_multiboot(bytes));
  put_header(bytes, 8192 - 12, 0);
  EXPECT_TRUE(find_multiboot(bytes));
  bytes = test::pattern(16384);
  put_header(bytes, 8192 - 8, 0);
  EXPECT_FALSE(find_multiboot(bytes));
  bytes = test::pattern(16384);
  put_header(bytes, 102, 0);  // not aligned
  EXPECT_FALSE(find_multiboot(bytes));
  bytes = test::pattern(16384);
  put_header(bytes, 100, 0);
  poke(bytes, 108, uint32_t{1});  // checksum
  EXPECT_FALSE(find_multiboot(bytes));
  bytes = test::pattern(40);
  put_header(bytes, 28, 1U << 16);  // ends before its address fields
  EXPECT_FALSE(find_multiboot(bytes));
}

TEST(Multiboot, VideoIsIgnoredUnknownDemandsAreNot) {
  EXPECT_EQ(error_of(elf_kernel(7)), "loaded");
  EXPECT_THAT(error_of(elf_kernel(8)), HasSubstr("features 0x8"));
  EXPECT_EQ(error_of(elf_kernel(1U << 20)), "loaded");
}

TEST(Multiboot, SurvivesMutations) {
  std::mt19937 random{777};
  const auto memory = make_memory(16);
  for (int round = 0; round < 1000; ++round) {
    auto image = raw_kernel(64, 0x200000, 0x200800, 0x201000, 0x200000);
    for (int i = 0; i < 1 + round % 3; ++i) image[64 + 12 + random() % 20] = static_cast<std::byte>(random());
    const auto loaded = load(image, memory);
    if (loaded) {
      EXPECT_LT(loaded->boot.rip, 16U << 20);
    }
  }
}

}  // namespace
}  // namespace vmm::firmware
