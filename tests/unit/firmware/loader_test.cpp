// SPDX-License-Identifier: Apache-2.0
#include "firmware/loader.h"

#include <sys/stat.h>

#include <asm/bootparam.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "firmware/boot_layout.h"
#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::Bytes;
using test::from_text;
using test::load;
using test::make_memory;
using test::poke;
using testing::HasSubstr;

std::string error_of(const Bytes& image) {
  const auto loaded = load(image, make_memory(64));
  return loaded ? "loaded" : loaded.error().message;
}

TEST(KernelFile, NamesWhatIsNotAFile) {
  const auto missing = KernelFile::open("/does/not/exist");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "open kernel /does/not/exist: No such file or directory");
  const auto directory = KernelFile::open("/");
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message, HasSubstr("a directory"));
  const auto device = KernelFile::open("/dev/zero");
  ASSERT_FALSE(device);
  EXPECT_THAT(device.error().message, HasSubstr("not a regular file"));
  const test::TempFile empty{Bytes{}};
  ASSERT_FALSE(KernelFile::open(empty.path()));
  const test::TempFile place{Bytes{}};
  const std::string fifo = place.path() + ".fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_FALSE(KernelFile::open(fifo));  // and does not wait
  ::unlink(fifo.c_str());
}

TEST(KernelFile, NamesForeignKinds) {
  Bytes arm64 = test::pattern(4096);
  test::poke(arm64, 56, uint32_t{0x644d5241});
  EXPECT_THAT(error_of(arm64), HasSubstr("an arm64 Image, not for x86-64"));
  EXPECT_THAT(error_of(from_text("070701 and so on, a cpio archive")), HasSubstr("--initrd"));
  EXPECT_THAT(error_of(from_text("QFI\xfb with a header behind it")), HasSubstr("qcow2"));
  EXPECT_THAT(error_of(from_text("MZ, as a unified kernel image")), HasSubstr("EFI"));
  EXPECT_THAT(error_of(from_text("x")), HasSubstr("not a known kind of kernel"));
  EXPECT_THAT(error_of(test::compress(Codec::gzip, test::pattern(100))), HasSubstr("decompress it first"));
  auto elf = test::small_vmlinux();
  elf.machine = 183;
  EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("an ELF file for arm64"));
  elf.machine = 3;
  elf.is64 = false;
  EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("neither a Multiboot header nor a PVH note"));
  Bytes multiboot2(4096);
  poke(multiboot2, 64, uint32_t{0xe85250d6});
  poke(multiboot2, 72, uint32_t{16});
  poke(multiboot2, 76, 0U - 0xe85250d6U - 16U);
  EXPECT_THAT(error_of(multiboot2), HasSubstr("Multiboot 2"));
}

TEST(LoadElf, VmlinuxGetsBootParamsOfItsOwn) {
  auto elf = test::small_vmlinux();
  elf.notes = test::make_note("Linux", 0x100, test::pattern(1));
  Bytes entry;
  poke(entry, 0, uint64_t{0x1000040});
  test::append(elf.notes, test::make_note("Xen", 18, entry));
  const auto memory = make_memory(64);
  const test::TempFile initrd{test::pattern(100)};
  const auto loaded = load(make_elf(elf), memory, {.command_line = "quiet", .initrd = initrd.path()});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->boot.mode, BootState::Mode::long64);
  EXPECT_EQ(loaded->boot.rip, 0x1000000U);
  const auto params = memory.load<boot_params>(kZeroPage).value();
  EXPECT_EQ(uint32_t{params.hdr.header}, 0x53726448U);
  EXPECT_EQ(uint32_t{params.hdr.ramdisk_size}, 100U);
  EXPECT_EQ(loaded->phases.size(), 2U);
  EXPECT_FALSE(load(make_elf(elf), make_memory(64), {.command_line = std::string(2048, 'x')}));
}

TEST(LoadElf, AnyOtherElf64IsEnteredTheSameWay) {
  const auto loaded = load(make_elf(test::small_vmlinux()), make_memory(64));
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->boot.mode, BootState::Mode::long64);
}

TEST(LoadElf, SegmentsMustBeRamAndApart) {
  auto elf = test::small_vmlinux();
  elf.segments[1].physical = 0x1000000 + 100;
  EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("overlaps"));
  elf.segments[1].physical = 0xa0000;
  EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("at 0xa0000"));
  elf.segments[1].physical = 0x3fffff0;
  EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("too little memory"));
  elf.segments[1].physical = 0x500;
  EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("link it higher"));
}

TEST(LoadElf, TruncatedFile) {
  auto file = make_elf(test::small_vmlinux());
  file.resize(file.size() - 1);
  EXPECT_THAT(error_of(file), HasSubstr("ends at byte"));
}

TEST(LoadPvh, DescribesTheMachine) {
  auto elf = test::small_vmlinux();
  Bytes entry;
  poke(entry, 0, uint32_t{0x1000040});
  elf.notes = test::make_note("Xen", 18, entry);
  const test::TempFile initrd{test::pattern(5000)};
  const auto memory = make_memory(64);
  const auto loaded =
      load(make_elf(elf), memory, {.command_line = "hello", .initrd = initrd.path(), .rsdp = Gpa{0xe0000}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->boot.mode, BootState::Mode::protected32);
  EXPECT_EQ(loaded->boot.rip, 0x1000040U);
  const uint64_t info = loaded->boot.rbx;
  const auto at32 = [&](uint64_t offset) { return memory.load<uint32_t>(Gpa{info + offset}).value(); };
  const auto at64 = [&](uint64_t offset) { return memory.load<uint64_t>(Gpa{info + offset}).value(); };
  EXPECT_EQ(at32(0), 0x336ec578U);
  EXPECT_EQ(at32(4), 1U);
  EXPECT_EQ(at32(12), 1U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{at64(16)}), 0x4000000U - 0x2000);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{at64(16) + 8}), 5000U);
  EXPECT_EQ(at64(24), kCommandLine.raw);
  EXPECT_EQ(at64(32), 0xe0000U);
  EXPECT_EQ(at32(48), 3U);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{at64(40) + 24}), kConventionalEnd);
  EXPECT_EQ(memory.load<uint32_t>(Gpa{at64(40) + 40}), 2U);
}

TEST(LoadPvh, EntryMustBeInsideASegment) {
  for (const uint64_t address : {uint64_t{0x500}, uint64_t{0x101000040}, ~uint64_t{0}}) {
    auto elf = test::small_vmlinux();
    Bytes entry;
    poke(entry, 0, address);
    elf.notes = test::make_note("Xen", 18, entry);
    EXPECT_THAT(error_of(make_elf(elf)), HasSubstr("PVH entry"));
  }
}

TEST(LoadFlat, BootSectorRunsWhereABiosPutsIt) {
  auto sector = test::pattern(512);
  poke(sector, 510, uint16_t{0xaa55});
  const auto memory = make_memory(1);
  const auto loaded = load(sector, memory);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->boot.mode, BootState::Mode::real16);
  EXPECT_EQ(loaded->boot.rip, 0x7c00U);
  EXPECT_EQ(loaded->boot.code_base, 0U);
  EXPECT_EQ(memory.load<uint16_t>(Gpa{0x7dfe}), 0xaa55);
}

TEST(LoadFlat, AddressDecides) {
  const auto program = test::pattern(5000);
  const auto with = [&](uint64_t address) {
    return load(program, make_memory(2), {.flat_address = Gpa{address}});
  };
  const auto high = with(0x20000);
  ASSERT_TRUE(high);
  EXPECT_EQ(high->boot.code_base, 0x20000U);
  EXPECT_EQ(high->boot.rip, 0U);
  EXPECT_TRUE(with((0x9fc00 - 5000) & ~15U));
  EXPECT_FALSE(with(0x9fc00 - 4992));
  EXPECT_FALSE(with(0x20001));
  EXPECT_FALSE(with(0x100000));
  EXPECT_FALSE(with(~0ULL));
}

TEST(LoadInitrd, FaultsNameTheFile) {
  const auto image = make_elf(test::small_vmlinux());
  const auto missing = load(image, make_memory(64), {.initrd = "/does/not/exist"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "open initrd /does/not/exist: No such file or directory");
  const auto directory = load(image, make_memory(64), {.initrd = "/tmp"});
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message, HasSubstr("open initrd /tmp: a directory"));
}

TEST(LoadKernel, TooManyRangesAreNotTruncated) {
  LoadOptions options;
  const auto memory = make_memory(64);
  std::vector<MemoryRange> many;
  for (uint64_t i = 0; i < 300; ++i)
    many.push_back({Gpa{(1ULL << 40) + i * 0x2000}, 0x1000, MemoryType::reserved});
  options.memory_map = make_memory_map(memory, many);
  EXPECT_FALSE(load(make_elf(test::small_vmlinux()), memory, options));
}

}  // namespace
}  // namespace vmm::firmware
