// SPDX-License-Identifier: Apache-2.0
#include "firmware/kernel_cache.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

#include <asm/bootparam.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "firmware/boot_layout.h"
#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

namespace fs = std::filesystem;
using test::Bytes;
using test::make_memory;
using test::poke;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kText = 0x1000000;
constexpr uint64_t kData = 0x1100000;
constexpr KaslrRandom kSomewhere{5, 3};

// A vmlinux with a page of stored zeros in the middle, and relocations as Linux appends them.
Bytes movable_vmlinux(uint32_t seed = 7) {
  auto elf = test::small_vmlinux();
  auto& text = elf.segments[0].data;
  text = test::pattern(100'000, seed);
  std::fill_n(text.begin() + 0x4000, 0x3000, std::byte{0});
  poke(text, 0x100, uint64_t{0xffffffff81000040});
  poke(text, 0x200, uint32_t{0x81000080});
  Bytes vmlinux = make_elf(elf);
  for (const uint32_t word : {0U, 0x81000100U, 0U, 0U, 0x81000200U}) poke(vmlinux, vmlinux.size(), word);
  return vmlinux;
}

Bytes image_of(const Bytes& vmlinux) {
  return test::make_bzimage(test::kernel_payload(Codec::lz4, vmlinux));
}

class Cache : public testing::Test {
 protected:
  Cache() {
    std::string name = testing::TempDir() + "vmm-cache-XXXXXX";
    root_ = ::mkdtemp(name.data());
    path_ = root_ / "a" / "unpacked";
  }
  ~Cache() override {
    std::error_code error;
    fs::remove_all(root_, error);
  }

  // Loads as a new start of the program would.
  Result<LoadedKernel> start(const std::string& file, const GuestMemory& memory,
                             std::optional<KaslrRandom> random = kSomewhere) const {
    auto cache = KernelCache::open(path_, settled_);
    LoadOptions options;
    options.memory_map = make_memory_map(memory, {});
    options.kaslr = random;
    options.cache = cache ? &*cache : nullptr;
    VMM_TRY_ASSIGN(const KernelFile kernel, KernelFile::open(file));
    return load_kernel(kernel, memory, options);
  }

  [[nodiscard]] std::vector<fs::path> entries(std::string_view prefix = "blake2b-") const {
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& item : fs::directory_iterator{path_, error}) {
      if (item.path().filename().string().starts_with(prefix)) found.push_back(item.path());
    }
    return found;
  }

  fs::path root_;
  fs::path path_;
  std::chrono::seconds settled_{2};
};

// The kernel at kSomewhere, and some of what is around it.
Bytes contents(const GuestMemory& memory) {
  Bytes bytes(4 << 20);
  EXPECT_TRUE(memory.read(Gpa{25 << 20}, bytes));
  return bytes;
}

TEST_F(Cache, SecondStartIsTheSameWithoutUnpacking) {
  const test::TempFile file{image_of(movable_vmlinux())};
  const auto first = make_memory(64);
  const auto unpacked = start(file.path(), first);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_THAT(unpacked->description, HasSubstr("lz4 payload unpacked here, 64-bit entry, KASLR"));
  ASSERT_EQ(entries().size(), 1U);
  struct stat status{};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);

  const auto second = make_memory(64);
  const auto mapped = start(file.path(), second);
  ASSERT_TRUE(mapped) << mapped.error().message;
  EXPECT_THAT(mapped->description, HasSubstr("from the cache"));
  EXPECT_EQ(mapped->boot.rip, unpacked->boot.rip);
  EXPECT_EQ(contents(first), contents(second));
  // What a guest writes is its own.
  ASSERT_TRUE(second.store(Gpa{mapped->boot.rip + 0x8000}, uint64_t{1}));
  const auto third = make_memory(64);
  ASSERT_TRUE(start(file.path(), third));
  EXPECT_EQ(contents(first), contents(third));
}

TEST_F(Cache, RandomAddressesAreThoseOfEachStart) {
  const test::TempFile file{image_of(movable_vmlinux())};
  for (const KaslrRandom random : {KaslrRandom{0, 0}, KaslrRandom{5, 3}, KaslrRandom{9, 400}}) {
    for (int round = 0; round < 2; ++round) {
      const auto memory = make_memory(64);
      const auto loaded = start(file.path(), memory, random);
      ASSERT_TRUE(loaded) << loaded.error().message;
      const uint64_t base = kText + random[0] * 0x200000;
      const uint64_t slide = random[1] * 0x200000;
      EXPECT_EQ(loaded->boot.rip, base);
      EXPECT_EQ(loaded->slide.virtual_bytes, slide);
      EXPECT_EQ(loaded->slide.physical_bytes, base - kText);
      EXPECT_EQ(memory.load<uint64_t>(Gpa{base + 0x100}), 0xffffffff81000040U + slide);
      EXPECT_EQ(memory.load<uint32_t>(Gpa{base + 0x200}), 0x81000080U + slide);
      EXPECT_EQ(memory.load<uint8_t>(Gpa{base + 0x100000}), std::to_integer<uint8_t>(test::pattern(1, 8)[0]));
      const auto params = memory.load<boot_params>(kZeroPage);
      EXPECT_EQ(params->hdr.loadflags & KASLR_FLAG, KASLR_FLAG);
    }
  }
  const auto memory = make_memory(64);
  const auto still = start(file.path(), memory, std::nullopt);
  ASSERT_TRUE(still);
  EXPECT_EQ(still->boot.rip, kText);
  EXPECT_EQ(memory.load<uint64_t>(Gpa{kText + 0x100}), 0xffffffff81000040U);
  EXPECT_EQ(memory.load<boot_params>(kZeroPage)->hdr.loadflags & KASLR_FLAG, 0);
  EXPECT_THAT(still->description, Not(HasSubstr("KASLR")));
}

TEST_F(Cache, AnUntouchedFileIsNotReadAgain) {
  const test::TempFile file{image_of(movable_vmlinux())};
  // It was written now: too recently for its times to say anything.
  settled_ = std::chrono::hours{1};
  ASSERT_TRUE(start(file.path(), make_memory(64)));
  EXPECT_EQ(entries("file-").size(), 0U);
  settled_ = std::chrono::seconds{-1};
  ASSERT_TRUE(start(file.path(), make_memory(64)));
  ASSERT_EQ(entries("file-").size(), 1U);
  EXPECT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("from the cache"));
  // Another content under the same name is another file.
  const auto other = image_of(movable_vmlinux(9));
  std::ofstream{file.path(), std::ios::binary}.write(reinterpret_cast<const char*>(other.data()),
                                                     static_cast<std::streamsize>(other.size()));
  EXPECT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("unpacked here"));
  EXPECT_EQ(entries().size(), 2U);
}

TEST_F(Cache, DamagedEntriesAreUnpackedAgain) {
  const test::TempFile file{image_of(movable_vmlinux())};
  const auto good = make_memory(64);
  ASSERT_TRUE(start(file.path(), good));
  const auto expected = contents(good);
  ASSERT_EQ(entries().size(), 1U);
  const auto entry = entries().front();
  std::ifstream stream{entry, std::ios::binary};
  const std::string whole{std::istreambuf_iterator<char>{stream}, {}};
  const auto check = [&](const std::string& bytes) {
    fs::remove(entry);
    std::ofstream{entry, std::ios::binary} << bytes;
    fs::permissions(entry, fs::perms::owner_read);
    const auto memory = make_memory(64);
    const auto loaded = start(file.path(), memory);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_THAT(loaded->description, HasSubstr("unpacked here"));
    EXPECT_EQ(contents(memory), expected);
  };
  check("");
  check("a cache file, surely");
  check(whole.substr(0, whole.size() - 4));
  check(whole + "tail");
  // Each field of the header and of the first run, out of all bounds.
  for (size_t at = 0; at < 64 + 16; at += 8) {
    if (at == 24 || at == 32 || at == 40) continue;  // any virtual address, size, entry: see below
    for (const uint64_t value : {~uint64_t{0}, uint64_t{0x1234567}}) {
      auto bytes = whole;
      std::memcpy(bytes.data() + at, &value, sizeof value);
      check(bytes);
    }
  }
  // Others can write to it.
  fs::remove(entry);
  std::ofstream{entry, std::ios::binary} << whole;
  fs::permissions(entry, fs::perms::owner_read | fs::perms::group_write);
  EXPECT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("unpacked here"));
}

TEST_F(Cache, AnEntryThatItsLinkLeadsToIsMendedToo) {
  const test::TempFile file{image_of(movable_vmlinux())};
  settled_ = std::chrono::seconds{-1};
  ASSERT_TRUE(start(file.path(), make_memory(64)));
  ASSERT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("from the cache"));
  ASSERT_EQ(entries("file-").size(), 1U);
  const auto entry = entries().front();
  fs::permissions(entry, fs::perms::owner_read | fs::perms::owner_write);
  std::fstream{entry, std::ios::binary | std::ios::in | std::ios::out}.seekp(-8, std::ios::end)
      << "\xff\xff\xff\x7f\xff\xff\xff\x7f";  // relocations of what is not in the image
  EXPECT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("unpacked here"));
  EXPECT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("from the cache"));
}

TEST_F(Cache, MutatedEntriesDoNoHarm) {
  const test::TempFile file{image_of(movable_vmlinux())};
  ASSERT_TRUE(start(file.path(), make_memory(64)));
  const auto entry = entries().front();
  std::ifstream stream{entry, std::ios::binary};
  const std::string whole{std::istreambuf_iterator<char>{stream}, {}};
  std::mt19937 random{1234};
  const auto memory = make_memory(64);
  for (int round = 0; round < 100; ++round) {
    auto bytes = whole;
    for (int i = 0; i < 1 + round % 4; ++i) {
      // In the header, the runs or the relocations.
      const size_t at = random() % 3 == 0 ? bytes.size() - 1 - random() % 20 : random() % 112;
      bytes[at] = static_cast<char>(random() % 4 == 0 ? 0xff : random());
    }
    fs::remove(entry);
    std::ofstream{entry, std::ios::binary} << bytes;
    fs::permissions(entry, fs::perms::owner_read);
    (void)start(file.path(), memory);  // an error or a kernel, and no byte outside of its memory
  }
}

TEST_F(Cache, AnUnusableDirectoryIsNoError) {
  const test::TempFile file{image_of(movable_vmlinux())};
  std::ofstream{root_ / "a"} << "a file where the directory should be";
  const auto loaded = start(file.path(), make_memory(64));
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_THAT(loaded->description, HasSubstr("unpacked here"));
  fs::remove(root_ / "a");
  fs::create_directories(path_);
  fs::permissions(path_, fs::perms::all);
  EXPECT_FALSE(KernelCache::open(path_));  // anybody could put a kernel there
}

TEST_F(Cache, LinksThatLeadElsewhereAreNotFollowed) {
  const test::TempFile file{image_of(movable_vmlinux())};
  ASSERT_TRUE(start(file.path(), make_memory(64)));
  const auto entry = entries().front();
  const auto outside = root_ / "outside";
  fs::rename(entry, outside);
  fs::create_symlink(outside, entry);
  EXPECT_THAT(start(file.path(), make_memory(64))->description, HasSubstr("unpacked here"));
  EXPECT_FALSE(fs::is_symlink(entry));  // replaced
}

TEST_F(Cache, KeepsTheNewest) {
  for (uint32_t seed = 20; seed < 20 + KernelCache::kMostEntries + 3; ++seed) {
    const test::TempFile file{image_of(movable_vmlinux(seed))};
    ASSERT_TRUE(start(file.path(), make_memory(64)));
  }
  EXPECT_EQ(entries().size(), KernelCache::kMostEntries);
  EXPECT_EQ(entries("new-").size(), 0U);
}

TEST(LoadBzImage, KaslrNeedsRelocationsAndRoom) {
  const auto load = [](const Bytes& image, const GuestMemory& memory, LoadOptions options) {
    options.kaslr = kSomewhere;
    return test::load(image, memory, std::move(options));
  };
  const auto memory = make_memory(64);
  const auto plain = load(image_of(make_elf(test::small_vmlinux())), memory, {});
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->boot.rip, kText);
  EXPECT_THAT(plain->description, Not(HasSubstr("KASLR")));
  EXPECT_EQ(load(image_of(movable_vmlinux()), make_memory(64), {.command_line = "quiet nokaslr"})->boot.rip,
            kText);
  EXPECT_EQ(load(image_of(movable_vmlinux()), make_memory(24), {})->boot.rip,
            kText);  // 8 MiB from there: just so
  auto odd = image_of(movable_vmlinux());
  poke(odd, test::at::kernel_alignment, uint32_t{0x300000});
  EXPECT_EQ(load(odd, make_memory(64), {})->boot.rip, kText);
  // The initrd lies above it: the kernel never runs into it.
  const test::TempFile initrd{test::pattern(30 << 20)};
  for (uint64_t i = 0; i < 40; ++i) {
    LoadOptions options;
    options.initrd = initrd.path();
    options.kaslr = KaslrRandom{i, i};
    const auto with_initrd = make_memory(64);
    const auto loaded = test::load(image_of(movable_vmlinux()), with_initrd, options);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const auto params = with_initrd.load<boot_params>(kZeroPage).value();
    EXPECT_LE(loaded->boot.rip + 0x800000, uint64_t{params.hdr.ramdisk_image});
  }
}

TEST(LoadBzImage, HostileRelocationsAreRefused) {
  auto vmlinux = movable_vmlinux();
  poke(vmlinux, vmlinux.size() - 4, uint32_t{0x81200000});  // beyond its end
  LoadOptions options;
  options.kaslr = kSomewhere;
  const auto loaded = test::load(image_of(vmlinux), make_memory(64), options);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("outside of the kernel"));
  EXPECT_TRUE(test::load(image_of(vmlinux), make_memory(64)));
}

}  // namespace
}  // namespace vmm::firmware
