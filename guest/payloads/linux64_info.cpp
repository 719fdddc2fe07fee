// SPDX-License-Identifier: Apache-2.0
// Lesson: what a loader tells a Linux kernel that it enters in 64-bit mode.
//
// Shows: boot_params, the "zero page": setup header, e820 map, command line, initial RAM disk, ACPI
//   tables; and what the loader promises of the processor (long mode, identity map, selectors).
// Manual: Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and
//   Documentation/arch/x86/zero-page.rst. The entry is lib/entry_linux64.S.
// See: the structure's contents and the exit status 33.
#include "acpi.h"
#include "boot.h"
#include "console.h"
#include "multiboot.h"

using namespace payload;

namespace {

enum ZeroPage : uint64_t {
  kAcpiRsdp = 0x070,
  kE820Entries = 0x1E8,
  kBootFlag = 0x1FE,
  kHeader = 0x202,
  kTypeOfLoader = 0x210,
  kRamdiskImage = 0x218,
  kRamdiskSize = 0x21C,
  kCommandLine = 0x228,
  kE820Table = 0x2D0,
};

struct [[gnu::packed]] E820 {
  uint64_t base;
  uint64_t size;
  uint32_t type;
};
static_assert(sizeof(E820) == 20);

constexpr uint64_t kOurAddress = 0x100000;

}  // namespace

void payload_main(const Boot& boot) {
  const uint64_t zero_page = boot.info;
  check(at<uint16_t>(zero_page + kBootFlag) == 0xAA55, "boot_flag");
  check(at<uint32_t>(zero_page + kHeader) == 0x53726448, "header is \"HdrS\"");
  check(at<uint8_t>(zero_page + kTypeOfLoader) != 0, "type_of_loader is set");
  print("command line: ", &at<char>(at<uint32_t>(zero_page + kCommandLine)), '\n');

  bool contains_us = false;
  uint64_t usable = 0;
  uint64_t last_end = 0;
  const uint32_t entries = at<uint8_t>(zero_page + kE820Entries);
  check(entries > 0 && entries <= 128, "e820_entries");
  for (uint32_t i = 0; i < entries; ++i) {
    const auto& entry = at<E820>(zero_page + kE820Table + i * sizeof(E820));
    print("e820 ", Hex{entry.base}, " + ", Hex{entry.size}, " type ", entry.type, '\n');
    check(entry.base >= last_end, "e820 entries are sorted and do not overlap");
    last_end = entry.base + entry.size;
    if (entry.type != 1) continue;
    usable += entry.size;
    if (entry.base <= kOurAddress && kOurAddress < last_end) contains_us = true;
  }
  check(contains_us, "the map says that the kernel lies in RAM");
  print("usable MiB ", usable >> 20, '\n');

  const uint64_t ramdisk = at<uint32_t>(zero_page + kRamdiskImage);
  const uint32_t size = at<uint32_t>(zero_page + kRamdiskSize);
  if (size != 0) {
    print("ramdisk of ", size, " bytes: ");
    for (uint32_t n = 0; n < size && at<char>(ramdisk + n) >= ' '; ++n) put(at<char>(ramdisk + n));
    print('\n');
  }

  const uint64_t rsdp = find_rsdp(at<uint64_t>(zero_page + kAcpiRsdp));
  check(rsdp != 0, "acpi_rsdp_addr or the search leads to the RSDP");
  check(read_madt(rsdp).cpus >= 1, "the MADT lists a processor");
  print("rsdp at ", Hex{rsdp}, '\n');
  pass();
}
