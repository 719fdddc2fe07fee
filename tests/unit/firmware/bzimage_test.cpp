// SPDX-License-Identifier: Apache-2.0
#include "firmware/bzimage.h"

#include <cstdlib>
#include <filesystem>
#include <random>

#include <asm/bootparam.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "firmware/boot_layout.h"
#include "firmware/elf_image.h"
#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::Bytes;
using test::load;
using test::make_bzimage;
using test::make_memory;
using test::poke;
using testing::HasSubstr;
namespace at = test::at;

Bytes good_image(Codec codec = Codec::lz4) {
  Bytes vmlinux = make_elf(test::small_vmlinux());
  test::append(vmlinux, test::pattern(5000, 3));  // where a kernel has its relocations
  return make_bzimage(test::kernel_payload(codec, vmlinux));
}

std::string error_of(const Bytes& image, const GuestMemory& memory) {
  auto loaded = load(image, memory);
  return loaded ? "loaded: " + loaded->description : loaded.error().message;
}
std::string error_of(const Bytes& image) {
  return error_of(image, make_memory(64));
}

bool holds(const GuestMemory& memory, uint64_t address, std::span<const std::byte> bytes) {
  Bytes there(bytes.size());
  return memory.read(Gpa{address}, there) && std::equal(bytes.begin(), bytes.end(), there.begin());
}

boot_params params_in(const GuestMemory& memory) {
  return memory.load<boot_params>(kZeroPage).value();
}

class BzImage : public testing::TestWithParam<Codec> {};

TEST_P(BzImage, UnpacksStraightToItsPlace) {
  const auto memory = make_memory(64);
  const auto loaded = load(good_image(GetParam()), memory, {.command_line = "console=ttyS0"});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_THAT(loaded->description, HasSubstr(std::string{to_string(GetParam())}));
  const auto elf = test::small_vmlinux();
  EXPECT_TRUE(holds(memory, 0x1000000, elf.segments[0].data));
  EXPECT_TRUE(holds(memory, 0x1100000, elf.segments[1].data));
  EXPECT_TRUE(holds(memory, 0x1100000 + elf.segments[1].data.size(), Bytes(4096)));

  EXPECT_EQ(loaded->boot.mode, BootState::Mode::long64);
  EXPECT_EQ(loaded->boot.rip, 0x1000000U);
  EXPECT_EQ(loaded->boot.rsi, kZeroPage.raw);
  const auto params = params_in(memory);
  EXPECT_EQ(uint32_t{params.hdr.cmd_line_ptr}, kCommandLine.raw);
  EXPECT_EQ(params.hdr.type_of_loader, 0xff);
  EXPECT_EQ(params.sentinel, 0);
  EXPECT_TRUE(holds(memory, kCommandLine.raw, test::from_text({"console=ttyS0\0", 14})));
}

INSTANTIATE_TEST_SUITE_P(Codecs, BzImage,
                         testing::Values(Codec::gzip, Codec::bzip2, Codec::lzma, Codec::xz, Codec::lz4,
                                         Codec::zstd),
                         [](const auto& param) { return std::string{to_string(param.param)}; });

TEST(BzImage, ReportsWhatItRead) {
  const auto memory = make_memory(64);
  const auto loaded = load(good_image(), memory);
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->phases.size(), 1U);
  EXPECT_EQ(loaded->phases[0].name, "kernel");
  EXPECT_GT(loaded->phases[0].bytes_loaded, 105'000U);
}

TEST(BzImage, PageTablesMapTheLowFourGiB) {
  const auto memory = make_memory(64);
  const auto loaded = load(good_image(), memory);
  ASSERT_TRUE(loaded);
  for (const uint64_t address :
       {uint64_t{0}, uint64_t{0x1000000}, uint64_t{0xfee00000}, uint64_t{0xffffffff}}) {
    uint64_t table = loaded->boot.page_tables.raw;
    for (const int shift : {39, 30, 21}) {
      const auto entry = memory.load<uint64_t>(Gpa{table + ((address >> shift) & 511) * 8});
      ASSERT_TRUE(entry && (*entry & 3) == 3);
      table = *entry & ~0xfffULL;
      if (shift == 21) {
        EXPECT_EQ(*entry & 0x80, 0x80U);
        EXPECT_EQ(table, address & ~0x1fffffULL);
      }
    }
  }
  EXPECT_EQ(memory.load<uint64_t>(Gpa{loaded->boot.gdt.raw + BootState::kCodeSelector}), 0x00af9b000000ffffU);
  EXPECT_EQ(loaded->boot.gdt_limit, 31);
}

TEST(BzImage, DescribesTheMachine) {
  const auto memory = make_memory(64);
  LoadOptions options;
  options.rsdp = Gpa{0xe0000};
  options.random_seed = test::pattern(32);
  ASSERT_TRUE(load(good_image(), memory, options));
  const auto params = params_in(memory);
  EXPECT_EQ(params.acpi_rsdp_addr, 0xe0000U);
  ASSERT_EQ(params.e820_entries, 3);
  EXPECT_EQ(uint64_t{params.e820_table[2].addr}, kOneMiB);
  EXPECT_EQ(uint64_t{params.hdr.setup_data}, kSetupData.raw);
  EXPECT_EQ(memory.load<uint64_t>(kSetupData), 0U);
  EXPECT_EQ(memory.load<uint32_t>(Gpa{kSetupData.raw + 8}), 9U);
  EXPECT_EQ(memory.load<uint32_t>(Gpa{kSetupData.raw + 12}), 32U);
  EXPECT_TRUE(holds(memory, kSetupData.raw + 16, options.random_seed));
}

TEST(BzImage, InitrdGoesAsHighAsTheKernelAllows) {
  const test::TempFile initrd{test::pattern(10'000)};
  const auto memory = make_memory(64);
  auto image = good_image();
  ASSERT_TRUE(load(image, memory, {.initrd = initrd.path()}));
  EXPECT_EQ(uint32_t{params_in(memory).hdr.ramdisk_image}, 0x4000000U - 0x3000);
  EXPECT_EQ(uint32_t{params_in(memory).hdr.ramdisk_size}, 10'000U);
  EXPECT_TRUE(holds(memory, 0x4000000 - 0x3000, test::pattern(10'000)));

  poke(image, at::initrd_addr_max, uint32_t{0x2ffffff});
  const auto other = make_memory(64);
  ASSERT_TRUE(load(image, other, {.initrd = initrd.path()}));
  EXPECT_EQ(uint32_t{params_in(other).hdr.ramdisk_image}, 0x3000000U - 0x3000);
}

TEST(BzImage, InitrdThatDoesNotFitNamesTheNumbers) {
  const test::TempFile initrd{Bytes(50 << 20)};
  const auto loaded = load(good_image(), make_memory(64), {.initrd = initrd.path()});
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("its 50 MiB do not fit"));
  EXPECT_THAT(loaded.error().message, HasSubstr("0x1800000"));  // 16 MiB + init_size
  EXPECT_THAT(loaded.error().message, HasSubstr("--memory"));
}

TEST(BzImage, CommandLineAtTheLimitAndOneMore) {
  auto image = good_image();
  poke(image, at::cmdline_size, uint32_t{100});
  EXPECT_TRUE(load(image, make_memory(64), {.command_line = std::string(100, 'x')}));
  const auto longer = load(image, make_memory(64), {.command_line = std::string(101, 'x')});
  ASSERT_FALSE(longer);
  EXPECT_THAT(longer.error().message, HasSubstr("has 101 characters, the kernel takes at most 100"));
  poke(image, at::cmdline_size, uint32_t{0xffffffff});
  EXPECT_TRUE(load(image, make_memory(64), {.command_line = std::string(0xffff, 'x')}));
  EXPECT_FALSE(load(image, make_memory(64), {.command_line = std::string(0x10000, 'x')}));
  EXPECT_FALSE(load(image, make_memory(64), {.command_line = std::string("a\0b", 3)}));
}

TEST(BzImage, UnknownPayloadIsLoadedWholeAndUnpacksItself) {
  const auto image = make_bzimage(test::kernel_payload(Codec::lzo, {}));
  const auto memory = make_memory(64);
  const auto loaded = load(image, memory);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->boot.rip, 0x1000200U);
  EXPECT_EQ(loaded->boot.mode, BootState::Mode::long64);
  EXPECT_TRUE(holds(memory, 0x1000000, std::span{image}.subspan(2048)));
  EXPECT_EQ(uint32_t{params_in(memory).hdr.code32_start}, 0x1000000U);
}

TEST(BzImage, PayloadOutsideOfTheFileIsLoadedWhole) {
  for (const auto& [offset, length] : {std::pair{0xfffffff0U, 64U}, {0x2ccU, 0xffffffffU}, {0x2ccU, 0U}}) {
    auto image = good_image();
    poke(image, at::payload_offset, offset);
    poke(image, at::payload_length, length);
    const auto loaded = load(image, make_memory(64));
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_THAT(loaded->description, HasSubstr("unpacks itself"));
  }
}

TEST(BzImage, Kernel32IsEnteredInProtectedMode) {
  auto image = good_image();
  poke(image, at::xloadflags, uint16_t{0});
  poke(image, at::relocatable, uint8_t{0});
  const auto memory = make_memory(64);
  const auto loaded = load(image, memory);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->boot.mode, BootState::Mode::protected32);
  EXPECT_EQ(loaded->boot.rip, kOneMiB);
  EXPECT_EQ(loaded->boot.rsi, kZeroPage.raw);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{loaded->boot.gdt.raw + BootState::kCodeSelector}), 0x00cf9b000000ffffU);
}

TEST(BzImage, SetupSectorsZeroMeansFour) {
  const auto image = make_bzimage(test::kernel_payload(Codec::gzip, make_elf(test::small_vmlinux())), 0);
  EXPECT_TRUE(load(image, make_memory(64)));
}

TEST(BzImage, SetupSectorsBeyondTheFile) {
  auto image = make_bzimage(test::kernel_payload(Codec::lzo, {}));
  poke(image, at::setup_sects, uint8_t{255});
  EXPECT_THAT(error_of(image), HasSubstr("truncated"));
}

TEST(BzImage, TruncatedAnywhereIsAnError) {
  const auto image = good_image(Codec::gzip);
  const auto memory = make_memory(64);
  for (size_t size = 512; size < image.size(); size += 512) {
    const Bytes part(image.begin(), image.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_THAT(error_of(part, memory), testing::Not(HasSubstr("loaded"))) << size;
  }
}

TEST(BzImage, OldProtocolIsNamed) {
  auto image = good_image();
  poke(image, at::version, uint16_t{0x020b});
  EXPECT_THAT(error_of(image), HasSubstr("boot protocol 2.11; 2.12 or later"));
}

TEST(BzImage, HeaderShorterThanItsVersionPromises) {
  auto image = good_image();
  poke(image, at::jump, uint16_t{0x10eb});
  EXPECT_THAT(error_of(image), HasSubstr("boot protocol"));
}

TEST(BzImage, TooLittleMemoryNamesHowMuch) {
  EXPECT_THAT(error_of(good_image(), make_memory(17)), HasSubstr("use --memory 18M"));  // segments
  EXPECT_THAT(error_of(good_image(), make_memory(20)), HasSubstr("use --memory 24M"));  // init_size
  auto image = good_image();
  poke(image, at::init_size, uint32_t{1U << 31});
  EXPECT_THAT(error_of(image), HasSubstr("needs 2064 MiB, the machine has 64"));
}

TEST(BzImage, FixedAddressesWithoutRamAreErrors) {
  auto image = make_bzimage(test::kernel_payload(Codec::lzo, {}));
  for (const uint64_t address : {~0ULL, ~0ULL - 0x1fffff, 1ULL << 32, 1ULL << 63}) {
    poke(image, at::pref_address, address);
    EXPECT_THAT(error_of(image), testing::Not(HasSubstr("loaded: bzImage, "))) << address;
  }
  poke(image, at::pref_address, uint64_t{0x1000000});
  poke(image, at::kernel_alignment, uint32_t{0x30000});
  EXPECT_THAT(error_of(image), HasSubstr("not a power of two"));
}

TEST(BzImage, PayloadLargerThanItStates) {
  auto payload = test::compress(Codec::xz, make_elf(test::small_vmlinux()));
  poke(payload, payload.size(), uint32_t{80'000});
  EXPECT_THAT(error_of(make_bzimage(payload)), HasSubstr("more than the 80000 bytes it states"));
  payload.resize(payload.size() - 4);
  poke(payload, payload.size(), uint32_t{0xffffffff});
  EXPECT_THAT(error_of(make_bzimage(payload)), HasSubstr("too little memory"));
}

TEST(BzImage, PayloadWithoutAKernel) {
  EXPECT_THAT(error_of(make_bzimage(test::kernel_payload(Codec::zstd, test::pattern(100'000)))),
              HasSubstr("not an ELF"));
  auto elf = test::small_vmlinux();
  elf.is64 = false;
  elf.machine = 3;
  EXPECT_THAT(error_of(make_bzimage(test::kernel_payload(Codec::zstd, make_elf(elf)))),
              HasSubstr("not an ELF64"));
  elf = test::small_vmlinux();
  elf.segments[1].physical = 0x8000;
  EXPECT_THAT(error_of(make_bzimage(test::kernel_payload(Codec::zstd, make_elf(elf)))),
              HasSubstr("link it higher"));
}

TEST(BzImage, PayloadThatEndsWithinASegment) {
  auto vmlinux = make_elf(test::small_vmlinux());
  vmlinux.resize(vmlinux.size() - 1);
  EXPECT_THAT(error_of(make_bzimage(test::kernel_payload(Codec::gzip, vmlinux))),
              HasSubstr("ends within a segment"));
}

TEST(BzImage, SurvivesMutatedHeaders) {
  std::mt19937 random{12345};
  const auto memory = make_memory(64);
  const auto image = good_image(Codec::lz4);
  for (int round = 0; round < 500; ++round) {
    auto mutant = image;
    for (int i = 0; i < 1 + round % 4; ++i) {
      const size_t where = random() % 8 == 0 ? random() % mutant.size() : 0x1f1 + random() % 0x90;
      mutant[where] = static_cast<std::byte>(random() % 4 == 0 ? 0xff : random());
    }
    const auto loaded = load(mutant, memory);
    if (loaded && loaded->boot.mode != BootState::Mode::real16) {
      EXPECT_LT(loaded->boot.rip, 64U << 20);
    }
  }
}

TEST(BzImage, SurvivesMutatedVmlinux) {
  std::mt19937 random{54321};
  const auto memory = make_memory(64);
  const auto vmlinux = make_elf(test::small_vmlinux());
  for (int round = 0; round < 300; ++round) {
    auto mutant = vmlinux;
    for (int i = 0; i < 1 + round % 4; ++i) {
      mutant[random() % 200] = static_cast<std::byte>(random() % 4 == 0 ? 0xff : random());
    }
    (void)load(make_bzimage(test::kernel_payload(Codec::lz4, mutant)), memory);
  }
}

// A kernel as a distribution ships it, if the cache has one.
std::vector<std::string> cached_kernels() {
  std::vector<std::string> found;
  std::filesystem::path cache;
  if (const char* set = std::getenv("VMM_CACHE")) {
    cache = set;
  } else if (const char* xdg = std::getenv("XDG_CACHE_HOME")) {
    cache = std::filesystem::path{xdg} / "vmm";
  } else if (const char* home = std::getenv("HOME")) {
    cache = std::filesystem::path{home} / ".cache" / "vmm";
  }
  // Others may work in the cache meanwhile: hidden directories are theirs, and what is gone is skipped.
  using std::filesystem::recursive_directory_iterator;
  std::error_code error;
  auto entry =
      recursive_directory_iterator{cache, std::filesystem::directory_options::skip_permission_denied, error};
  for (; !error && entry != recursive_directory_iterator{}; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (name.starts_with(".") || entry.depth() >= 4) entry.disable_recursion_pending();
    if (name.starts_with("vmlinuz") && entry->is_regular_file(error)) found.push_back(entry->path().string());
  }
  return found;
}

TEST(BzImage, LoadsTheKernelsInTheCache) {
  const auto kernels = cached_kernels();
  if (kernels.empty())
    GTEST_SKIP() << "NOT TESTED: no vmlinuz in the cache (tools/quickstart or tools/lab put one there)";
  for (const auto& path : kernels) {
    const auto memory = make_memory(512);
    LoadOptions options;
    options.memory_map = make_memory_map(memory, {});
    const auto kernel = KernelFile::open(path);
    ASSERT_TRUE(kernel) << kernel.error().message;
    const auto loaded = load_kernel(*kernel, memory, options);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_THAT(loaded->description, HasSubstr("unpacked here, 64-bit entry")) << path;
    EXPECT_EQ(loaded->boot.rip, 0x1000000U);
  }
}

}  // namespace
}  // namespace vmm::firmware
