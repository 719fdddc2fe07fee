// SPDX-License-Identifier: Apache-2.0
#include "firmware/smbios.h"

#include <map>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace vmm::firmware {
namespace {

constexpr uint64_t kMiB = 1 << 20;

struct Structure {
  std::vector<std::byte> formatted;
  std::vector<std::string> strings;

  template <typename T>
  T at(size_t offset) const {
    T value{};
    EXPECT_LE(offset + sizeof value, formatted.size());
    std::memcpy(&value, formatted.data() + offset, sizeof value);
    return value;
  }
};

// Walks the structures as a guest does: by length, then past the strings to two zeros.
std::multimap<int, Structure> walk(const GuestMemory& memory, Gpa entry_at) {
  std::multimap<int, Structure> found;
  std::vector<std::byte> entry(24);
  EXPECT_TRUE(memory.read(entry_at, entry));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(entry.data()), 5), "_SM3_");
  EXPECT_EQ(std::accumulate(entry.begin(), entry.end(), 0U,
                            [](unsigned all, std::byte b) { return all + std::to_integer<unsigned>(b); }) &
                0xff,
            0U);
  uint32_t size = 0;
  uint64_t base = 0;
  std::memcpy(&size, &entry[12], sizeof size);
  std::memcpy(&base, &entry[16], sizeof base);
  std::vector<std::byte> table(size);
  EXPECT_TRUE(memory.read(Gpa{base}, table));

  std::set<int> handles;
  for (size_t at = 0; at + 4 <= size;) {
    const auto type = std::to_integer<int>(table[at]);
    const auto length = std::to_integer<size_t>(table[at + 1]);
    EXPECT_GE(length, 4U);
    Structure structure{{&table[at], &table[at] + length}, {}};
    EXPECT_TRUE(handles.insert(structure.at<uint16_t>(2)).second) << "a handle twice";
    at += length;
    while (at < size && table[at] != std::byte{0}) {
      const std::string text(reinterpret_cast<const char*>(&table[at]));
      structure.strings.push_back(text);
      at += text.size() + 1;
    }
    at += structure.strings.empty() ? 2U : 1U;
    found.emplace(type, structure);
    if (type == 127) {
      EXPECT_EQ(at, size) << "the end is where the entry point says";
      break;
    }
  }
  return found;
}

GuestMemory make_memory(std::vector<GuestMemory::Range> ranges) {
  return std::move(*GuestMemory::create(ranges));
}

TEST(Smbios, DescribesTheMachine) {
  const auto memory = make_memory({{Gpa{0}, 512 * kMiB}});
  const auto entry = write_smbios(memory, {.version = "1.2.3", .cpus = 4});
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->raw % 16, 0U) << "or a search does not find it";
  const auto found = walk(memory, *entry);
  for (const int type : {0, 1, 3, 4, 16, 17, 19, 32, 127}) EXPECT_EQ(found.count(type), 1U) << type;
  EXPECT_EQ(found.find(0)->second.strings, (std::vector<std::string>{"VMM", "1.2.3", "01/01/2026"}));
  EXPECT_EQ(found.find(1)->second.strings[1], "KVM virtual machine");
  EXPECT_EQ(found.find(4)->second.at<uint8_t>(0x23), 4) << "cores";
  EXPECT_EQ(found.find(17)->second.at<uint16_t>(0x0c), 512) << "MiB";
  EXPECT_EQ(found.find(19)->second.at<uint32_t>(0x08), 512 * 1024 - 1U) << "last KiB";
}

TEST(Smbios, MuchMemoryInTwoRanges) {
  const auto memory = make_memory({{Gpa{0}, 3072 * kMiB}, {Gpa{0x1'0000'0000}, 61 * 1024 * kMiB}});
  const auto entry = write_smbios(memory, {.version = "", .cpus = 300});
  ASSERT_TRUE(entry);
  const auto found = walk(memory, *entry);
  EXPECT_EQ(found.count(19), 2U);
  const auto& device = found.find(17)->second;
  EXPECT_EQ(device.at<uint16_t>(0x0c), 0x7fff);
  EXPECT_EQ(device.at<uint32_t>(0x1c), 64 * 1024U) << "MiB";
  EXPECT_EQ(found.find(16)->second.at<uint64_t>(0x0f), 64 * 1024 * kMiB);
  const auto& processor = found.find(4)->second;
  EXPECT_EQ(processor.at<uint8_t>(0x23), 0xff);
  EXPECT_EQ(processor.at<uint16_t>(0x2a), 300);
}

TEST(Smbios, StringReferencesAreInRange) {
  const auto memory = make_memory({{Gpa{0}, 64 * kMiB}});
  const auto found = walk(memory, write_smbios(memory, {.version = "1"}).value());
  const std::map<int, std::vector<size_t>> references = {{0, {4, 5, 8}},
                                                         {1, {4, 5, 6, 7, 25, 26}},
                                                         {3, {4, 6, 7, 8, 21}},
                                                         {4, {4, 7, 16, 32, 33, 34}},
                                                         {17, {16, 17, 23, 24, 25, 26}}};
  for (const auto& [type, offsets] : references) {
    const auto& structure = found.find(type)->second;
    size_t used = 0;
    for (const size_t offset : offsets) {
      const auto number = structure.at<uint8_t>(offset);
      EXPECT_LE(number, structure.strings.size()) << type << " at " << offset;
      used += number != 0;
    }
    EXPECT_EQ(used, structure.strings.size()) << type;
  }
}

TEST(Smbios, NeedsMemory) {
  EXPECT_FALSE(write_smbios(make_memory({{Gpa{0}, 0x80000}}), {}));
  EXPECT_FALSE(write_smbios(make_memory({{Gpa{0}, kMiB}}), {.version = std::string(70'000, 'x')}));
}

}  // namespace
}  // namespace vmm::firmware
