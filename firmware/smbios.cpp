// SPDX-License-Identifier: Apache-2.0
#include "firmware/smbios.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

namespace vmm::firmware {
namespace {

// Structures as DSP0134 3.0 gives them, chapter 7; the fields named `…_text` count the strings behind the
// structure from 1, and 0 is none.
struct [[gnu::packed]] EntryPoint {  // 5.2.2
  std::array<char, 5> anchor = {'_', 'S', 'M', '3', '_'};
  uint8_t checksum = 0;
  uint8_t length = 24;
  uint8_t major = 3;
  uint8_t minor = 0;
  uint8_t document_revision = 0;
  uint8_t revision = 1;
  uint8_t reserved = 0;
  uint32_t most_bytes = 0;  // of all structures
  uint64_t structures = 0;
};
static_assert(sizeof(EntryPoint) == 24);

struct [[gnu::packed]] Header {
  uint8_t type = 0;
  uint8_t length = 0;
  uint16_t handle = 0;
};

struct [[gnu::packed]] Bios {
  Header header{0, 24, 0x0000};
  uint8_t vendor_text = 1;
  uint8_t version_text = 2;
  uint16_t segment = 0;
  uint8_t date_text = 3;
  uint8_t rom_size = 0;                // 64 KiB
  uint64_t characteristics = 1U << 3;  // "not supported": none of the features of a PC's BIOS
  std::array<uint8_t, 2> more_characteristics = {1U << 0, 1U << 4};  // ACPI; a virtual machine
  uint8_t major = 0xff;                                              // no release numbers
  uint8_t minor = 0xff;
  uint8_t controller_major = 0xff;
  uint8_t controller_minor = 0xff;
};
static_assert(sizeof(Bios) == 24);

struct [[gnu::packed]] System {
  Header header{1, 27, 0x0100};
  uint8_t manufacturer_text = 1;
  uint8_t product_text = 2;
  uint8_t version_text = 3;
  uint8_t serial_text = 0;
  std::array<uint8_t, 16> uuid{};  // not present
  uint8_t wake_up = 6;             // power switch
  uint8_t sku_text = 0;
  uint8_t family_text = 0;
};
static_assert(sizeof(System) == 27);

struct [[gnu::packed]] Chassis {
  Header header{3, 22, 0x0300};
  uint8_t manufacturer_text = 1;
  uint8_t kind = 1;  // other
  uint8_t version_text = 0;
  uint8_t serial_text = 0;
  uint8_t asset_text = 0;
  uint8_t boot_state = 3;  // safe
  uint8_t power_state = 3;
  uint8_t thermal_state = 3;
  uint8_t security = 3;  // none
  uint32_t oem = 0;
  uint8_t height = 0;
  uint8_t power_cords = 0;
  uint8_t elements = 0;
  uint8_t element_length = 0;
  uint8_t sku_text = 0;
};
static_assert(sizeof(Chassis) == 22);

struct [[gnu::packed]] Processor {
  Header header{4, 48, 0x0400};
  uint8_t socket_text = 1;
  uint8_t kind = 3;    // central processor
  uint8_t family = 2;  // unknown: CPUID says it
  uint8_t manufacturer_text = 2;
  uint64_t id = 0;
  uint8_t version_text = 3;
  uint8_t voltage = 0;
  uint16_t external_clock = 0;  // unknown, as are the speeds
  uint16_t most_speed = 0;
  uint16_t speed = 0;
  uint8_t status = 0x41;  // populated, enabled
  uint8_t upgrade = 6;    // none
  std::array<uint16_t, 3> caches = {0xffff, 0xffff, 0xffff};
  uint8_t serial_text = 0;
  uint8_t asset_text = 0;
  uint8_t part_text = 0;
  uint8_t cores = 0;
  uint8_t cores_enabled = 0;
  uint8_t threads = 0;
  uint16_t characteristics = 1U << 2;  // 64 bits
  uint16_t family2 = 2;
  uint16_t cores2 = 0;
  uint16_t cores_enabled2 = 0;
  uint16_t threads2 = 0;
};
static_assert(sizeof(Processor) == 48);

constexpr uint16_t kNoErrorInformation = 0xfffe;
constexpr uint16_t kMemoryArrayHandle = 0x1000;

struct [[gnu::packed]] MemoryArray {
  Header header{16, 23, kMemoryArrayHandle};
  uint8_t location = 1;             // other
  uint8_t use = 3;                  // system memory
  uint8_t correction = 3;           // none
  uint32_t most_kib = 0x8000'0000;  // see most_bytes
  uint16_t error = kNoErrorInformation;
  uint16_t devices = 1;
  uint64_t most_bytes = 0;
};
static_assert(sizeof(MemoryArray) == 23);

struct [[gnu::packed]] MemoryDevice {
  Header header{17, 40, 0x1100};
  uint16_t array = kMemoryArrayHandle;
  uint16_t error = kNoErrorInformation;
  uint16_t total_width = 0xffff;  // unknown
  uint16_t data_width = 0xffff;
  uint16_t size = 0;  // MiB, or 0x7fff: see more_size
  uint8_t form = 9;   // DIMM
  uint8_t set = 0;
  uint8_t locator_text = 1;
  uint8_t bank_text = 0;
  uint8_t kind = 7;           // RAM
  uint16_t detail = 1U << 1;  // other
  uint16_t speed = 0;
  uint8_t manufacturer_text = 2;
  uint8_t serial_text = 0;
  uint8_t asset_text = 0;
  uint8_t part_text = 0;
  uint8_t attributes = 0;
  uint32_t more_size = 0;  // MiB
  uint16_t configured_speed = 0;
  std::array<uint16_t, 3> voltages{};
};
static_assert(sizeof(MemoryDevice) == 40);

struct [[gnu::packed]] MappedRange {
  Header header{19, 31, 0x1300};
  uint32_t first_kib = 0xffff'ffff;  // see first and last
  uint32_t last_kib = 0xffff'ffff;
  uint16_t array = kMemoryArrayHandle;
  uint8_t devices = 1;
  uint64_t first = 0;
  uint64_t last = 0;
};
static_assert(sizeof(MappedRange) == 31);

struct [[gnu::packed]] BootInformation {
  Header header{32, 11, 0x2000};
  std::array<uint8_t, 6> reserved{};
  uint8_t status = 0;  // no errors
};
static_assert(sizeof(BootInformation) == 11);

constexpr std::string_view kVendor = "VMM";
constexpr std::string_view kReleaseDate =
    "01/01/2026";  // fixed, so that the same machine has the same tables
constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;

class Structures {
 public:
  // A structure, its strings, and the zero that ends them; without strings it takes two (6.1.3).
  template <typename T>
  void add(const T& structure, std::initializer_list<std::string_view> strings = {}) {
    put(std::as_bytes(std::span{&structure, 1}));
    for (const std::string_view text : strings) {
      put(std::as_bytes(std::span{text}));
      bytes_.push_back({});
    }
    if (strings.size() == 0) bytes_.push_back({});
    bytes_.push_back({});
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  void put(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  std::vector<std::byte> bytes_;
};

Processor describe_processor(uint32_t cpus) {
  Processor processor;
  const auto cores = static_cast<uint8_t>(std::min(cpus, 0xffU));
  const auto cores2 = static_cast<uint16_t>(std::min(cpus, 0xffffU));
  processor.cores = processor.cores_enabled = processor.threads = cores;
  processor.cores2 = processor.cores_enabled2 = processor.threads2 = cores2;
  if (cpus > 1) processor.characteristics |= 1U << 3;  // multi-core
  return processor;
}

MemoryDevice describe_memory(uint64_t size) {
  MemoryDevice device;
  const uint64_t mib = size / kMiB;
  if (mib < 0x7fff) {
    device.size = static_cast<uint16_t>(mib);
  } else {
    device.size = 0x7fff;
    device.more_size = static_cast<uint32_t>(std::min<uint64_t>(mib, 0x7fff'ffff));
  }
  return device;
}

MappedRange describe_range(const GuestMemory::Region& region, uint16_t index) {
  MappedRange range;
  range.header.handle = static_cast<uint16_t>(range.header.handle + index);
  const uint64_t last = region.base.raw + region.mapping.size() - 1;
  if (last / kKiB < 0xffff'ffff) {
    range.first_kib = static_cast<uint32_t>(region.base.raw / kKiB);
    range.last_kib = static_cast<uint32_t>(last / kKiB);
  } else {
    range.first = region.base.raw;
    range.last = last;
  }
  return range;
}

}  // namespace

Result<Gpa> write_smbios(const GuestMemory& memory, const SmbiosConfig& config) {
  const std::string_view version = config.version.empty() ? std::string_view{"0"} : config.version;
  Structures structures;
  structures.add(Bios{}, {kVendor, version, kReleaseDate});
  structures.add(System{}, {kVendor, "KVM virtual machine", version});
  structures.add(Chassis{}, {kVendor});
  structures.add(describe_processor(config.cpus), {"CPU 0", kVendor, "virtual"});
  structures.add(MemoryArray{.most_bytes = memory.size()});
  structures.add(describe_memory(memory.size()), {"DIMM 0", kVendor});
  uint16_t index = 0;
  for (const auto& region : memory.regions()) structures.add(describe_range(region, index++));
  structures.add(BootInformation{});
  structures.add(Header{127, 4, 0x7f00});

  constexpr uint64_t kStructuresOffset = 32;
  const auto table = structures.bytes();
  if (kStructuresOffset + table.size() > kSmbiosSpace)
    return fail("SMBIOS: {} bytes do not fit", table.size());
  EntryPoint entry;
  entry.most_bytes = static_cast<uint32_t>(table.size());
  entry.structures = kSmbiosBase.raw + kStructuresOffset;
  const auto entry_bytes = std::as_bytes(std::span{&entry, 1});
  const auto add = [](unsigned sum, std::byte byte) { return sum + std::to_integer<unsigned>(byte); };
  entry.checksum =
      static_cast<uint8_t>(0U - std::accumulate(entry_bytes.begin(), entry_bytes.end(), 0U, add));
  if (!memory.write(kSmbiosBase, entry_bytes) || !memory.write(Gpa{entry.structures}, table)) {
    return fail("SMBIOS: no memory at {:#x}; give the guest at least 1 MiB", kSmbiosBase.raw);
  }
  return kSmbiosBase;
}

}  // namespace vmm::firmware
