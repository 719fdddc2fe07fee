// SPDX-License-Identifier: Apache-2.0
#include "firmware/elf_image.h"

#include <elf.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::Bytes;
using test::poke;
using test::program_header64;
using testing::HasSubstr;

std::string error_of(const Bytes& file) {
  const auto image = parse_elf(file, "kernel");
  return image ? "parsed" : image.error().message;
}

TEST(ElfImage, ReadsBothClasses) {
  for (const bool is64 : {true, false}) {
    auto elf = test::small_vmlinux();
    elf.is64 = is64;
    const auto image = parse_elf(make_elf(elf), "kernel");
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(image->is64, is64);
    ASSERT_EQ(image->segments.size(), 2U);
    EXPECT_EQ(image->segments[1].base, Gpa{0x1100000});
    EXPECT_EQ(image->segments[1].file_size, 5000U);
    EXPECT_EQ(image->segments[1].memory_size, 100'000U);
    EXPECT_EQ(image->lowest(), Gpa{0x1000000});
    EXPECT_EQ(image->end(), 0x1100000U + 100'000);
  }
}

TEST(ElfImage, EntryMayBeVirtual) {
  auto elf = test::small_vmlinux();
  elf.entry = 0xffffffff81000123;
  const auto image = parse_elf(make_elf(elf), "kernel");
  ASSERT_TRUE(image);
  EXPECT_EQ(image->physical_entry("kernel"), 0x1000123U);
  elf.entry = 0x5000;
  const auto nowhere = parse_elf(make_elf(elf), "kernel");
  ASSERT_TRUE(nowhere);
  EXPECT_FALSE(nowhere->physical_entry("kernel"));
}

TEST(ElfImage, EveryTruncationOfTheHeadersIsAnError) {
  const auto file = make_elf(test::small_vmlinux());
  for (size_t size = 0; size < program_header64(2); ++size) {
    EXPECT_NE(error_of(Bytes(file.begin(), file.begin() + static_cast<ptrdiff_t>(size))), "parsed") << size;
  }
}

TEST(ElfImage, HostileProgramHeaderTables) {
  auto file = make_elf(test::small_vmlinux());
  poke(file, offsetof(Elf64_Ehdr, e_phnum), uint16_t{65535});
  EXPECT_THAT(error_of(file), HasSubstr("65535 program headers"));
  file = make_elf(test::small_vmlinux());
  poke(file, offsetof(Elf64_Ehdr, e_phoff), ~0ULL - 10);
  EXPECT_THAT(error_of(file), HasSubstr("not in its first"));
  file = make_elf(test::small_vmlinux());
  poke(file, offsetof(Elf64_Ehdr, e_phentsize), uint16_t{0});
  EXPECT_THAT(error_of(file), HasSubstr("have 0 bytes"));
  file = make_elf(test::small_vmlinux());
  poke(file, offsetof(Elf64_Ehdr, e_phnum), uint16_t{0});
  EXPECT_THAT(error_of(file), HasSubstr("nothing to load"));
}

TEST(ElfImage, HostileSegments) {
  const auto with = [](size_t field, uint64_t value) {
    auto file = make_elf(test::small_vmlinux());
    poke(file, program_header64(1) + field, value);
    return error_of(file);
  };
  EXPECT_THAT(with(offsetof(Elf64_Phdr, p_memsz), ~0ULL),
              HasSubstr("wraps around the end of the address space"));
  EXPECT_THAT(with(offsetof(Elf64_Phdr, p_paddr), ~0ULL - 5),
              HasSubstr("wraps around the end of the address space"));
  EXPECT_THAT(with(offsetof(Elf64_Phdr, p_offset), ~0ULL - 5), HasSubstr("wraps around"));
  EXPECT_THAT(with(offsetof(Elf64_Phdr, p_memsz), 4999),
              HasSubstr("5000 bytes in the file but 4999 in memory"));
}

TEST(ElfImage, NotForUs) {
  auto file = make_elf(test::small_vmlinux());
  poke(file, EI_DATA, uint8_t{ELFDATA2MSB});
  EXPECT_THAT(error_of(file), HasSubstr("big-endian"));
  file = make_elf(test::small_vmlinux());
  poke(file, EI_CLASS, uint8_t{9});
  EXPECT_THAT(error_of(file), HasSubstr("class 9"));
  file = make_elf(test::small_vmlinux());
  poke(file, offsetof(Elf64_Ehdr, e_type), uint16_t{ET_REL});
  EXPECT_THAT(error_of(file), HasSubstr("not an executable"));
}

Result<ElfNotes> notes_of(const Bytes& notes) {
  auto elf = test::small_vmlinux();
  elf.notes = notes;
  const auto bytes = make_elf(elf);
  const test::TempFile file{bytes};
  VMM_TRY_ASSIGN(const auto input, InputFile::open(file.path(), "kernel"));
  VMM_TRY_ASSIGN(const auto image, parse_elf(bytes, "kernel"));
  return read_notes(input, image);
}

TEST(ElfImage, FindsTheNotesOfKernels) {
  Bytes entry;
  poke(entry, 0, uint64_t{0x1000040});
  Bytes notes = test::make_note("GNU", 3, test::pattern(20));
  test::append(notes, test::make_note("Linux", 0x100, test::pattern(1)));
  test::append(notes, test::make_note("Xen", 18, entry));
  const auto found = notes_of(notes);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->linux_kernel);
  EXPECT_EQ(found->pvh_entry, 0x1000040U);
  const auto none = notes_of(test::make_note("Xen", 5, entry));
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->pvh_entry || none->linux_kernel);
}

TEST(ElfImage, TruncatedAndHostileNotes) {
  Bytes entry;
  poke(entry, 0, uint64_t{0x1000040});
  const auto note = test::make_note("Xen", 18, entry);
  for (size_t size = 1; size < note.size(); ++size) {
    const auto found = notes_of(Bytes(note.begin(), note.begin() + static_cast<ptrdiff_t>(size)));
    EXPECT_TRUE(!found || !found->pvh_entry) << size;
  }
  for (const uint32_t size : {0xffffffffU, 0xfffffffcU, 0x80000000U}) {
    for (const size_t field : {size_t{0}, size_t{4}}) {
      auto hostile = note;
      poke(hostile, field, size);
      const auto found = notes_of(hostile);
      EXPECT_TRUE(!found || !found->pvh_entry);
    }
  }
  EXPECT_FALSE(notes_of(test::make_note("Xen", 18, test::pattern(3))));
}

}  // namespace
}  // namespace vmm::firmware
