// SPDX-License-Identifier: Apache-2.0
#include "firmware/symbols.h"

#include <elf.h>

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::Bytes;
using test::poke;
using testing::HasSubstr;
using testing::Optional;

Result<SymbolTable> load(const Bytes& bytes) {
  const test::TempFile file{bytes};
  return SymbolTable::load(file.path());
}
Result<SymbolTable> load(std::string_view text) {
  return load(test::from_text(text));
}

TEST(Symbols, ReadsSystemMap) {
  const auto table = load(
      "ffffffff81000000 T startup_64\n"
      "ffffffff81000000 T _text\n"
      "ffffffff81000200 t do_idle\n"
      "ffffffff81000300 D jiffies\n"
      "ffffffffc0000000 t probe\t[virtio_blk]\n"
      "nonsense\n"
      "ffffffff81000400 T");
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(table->size(), 3U);
  EXPECT_THAT(table->name(0xffffffff81000000), Optional(std::string{"startup_64"}));
  EXPECT_THAT(table->name(0xffffffff8100021c), Optional(std::string{"do_idle+0x1c"}));
  EXPECT_THAT(table->name(0xffffffffc0000000), Optional(std::string{"probe"}));
  EXPECT_EQ(table->name(0xffffffff80ffffff), std::nullopt);
  EXPECT_EQ(table->name(0xffffffff82000000), std::nullopt);
  EXPECT_THAT(table->name(0x1000004), Optional(std::string{"startup_64+0x4"}));  // before it has page tables
  EXPECT_EQ(table->name(0), std::nullopt);
}

TEST(Symbols, AStubIsAnError) {
  const auto stub = load("ffffffffffffffff B The real System.map is in the linux-image-dbg package\n");
  ASSERT_FALSE(stub);
  EXPECT_THAT(stub.error().message, HasSubstr("names no functions"));
  EXPECT_FALSE(load("0000000000000000 T _text\n"));
  EXPECT_FALSE(SymbolTable::load("/does/not/exist"));
}

TEST(Symbols, NamesCannotDriveATerminal) {
  const auto table = load("1000 T evil\x1b[2J\n2000 T good\n");
  ASSERT_TRUE(table);
  EXPECT_EQ(table->size(), 1U);
}

TEST(Symbols, FollowTheSlide) {
  const auto table = load(test::from_text("ffffffff81000040 T early\nffffffff81200000 T late\n"));
  ASSERT_TRUE(table);
  const KernelSlide slide{.virtual_bytes = 0x12200000, .physical_bytes = 0x5000000};
  EXPECT_THAT(table->name(0xffffffff93400010, slide), Optional(std::string{"late+0x10"}));
  EXPECT_THAT(table->name(0x6000044, slide), Optional(std::string{"early+0x4"}));  // before page tables
  EXPECT_EQ(table->name(0xffffffff81200000, slide), std::nullopt);
  const KernelSlide down{.virtual_bytes = 0, .physical_bytes = 0ULL - 0x800000};
  EXPECT_THAT(table->name(0x800040, down), Optional(std::string{"early"}));
}

// An ELF64 of a header, three sections (none, symbols, strings) and two symbols.
Bytes elf_with_symbols() {
  Bytes file(sizeof(Elf64_Ehdr));
  const auto strings = test::from_text(std::string_view{"\0start\0main\0", 12});
  const size_t strings_at = file.size();
  test::append(file, strings);
  file.resize(128);
  poke(file, 128, Elf64_Sym{});
  poke(file, 152, Elf64_Sym{1, ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), 0, 1, 0x100000, 0});
  poke(file, 176, Elf64_Sym{7, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, 0x100040, 16});
  Elf64_Shdr symbols{};
  symbols.sh_type = SHT_SYMTAB;
  symbols.sh_offset = 128;
  symbols.sh_size = 72;
  symbols.sh_link = 2;
  Elf64_Shdr names{};
  names.sh_type = SHT_STRTAB;
  names.sh_offset = strings_at;
  names.sh_size = strings.size();
  poke(file, 200, Elf64_Shdr{});
  poke(file, 264, symbols);
  poke(file, 328, names);
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_shoff = 200;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 3;
  poke(file, 0, header);
  return file;
}

TEST(Symbols, ReadsAnElfsTable) {
  const auto table = load(elf_with_symbols());
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_THAT(table->name(0x100010), Optional(std::string{"start+0x10"}));
  EXPECT_THAT(table->name(0x100040), Optional(std::string{"main"}));
}

TEST(Symbols, HostileTables) {
  auto file = elf_with_symbols();
  poke(file, 264 + offsetof(Elf64_Shdr, sh_size), ~0ULL);
  EXPECT_FALSE(load(file));
  file = elf_with_symbols();
  poke(file, 264 + offsetof(Elf64_Shdr, sh_link), 0xffffffffU);
  EXPECT_FALSE(load(file));
  file = elf_with_symbols();
  poke(file, 152, 0xffffffffU);  // a name beyond the strings
  const auto table = load(file);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->size(), 1U);
  file = elf_with_symbols();
  for (size_t size = 1; size < file.size(); size += 7) {
    EXPECT_FALSE(load(Bytes(file.begin(), file.begin() + static_cast<ptrdiff_t>(size)))) << size;
  }
  std::mt19937 random{99};
  for (int round = 0; round < 500; ++round) {
    auto mutant = file;
    for (int i = 0; i < 3; ++i) mutant[random() % mutant.size()] = static_cast<std::byte>(random());
    (void)load(mutant);
  }
}

}  // namespace
}  // namespace vmm::firmware
