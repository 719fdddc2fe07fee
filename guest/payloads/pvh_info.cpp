// SPDX-License-Identifier: Apache-2.0
// Lesson: what a PVH loader tells a kernel.
//
// Shows: the start info: memory map, command line, modules, and where the ACPI tables are.
// Manual: Xen, "x86/HVM direct boot ABI" (docs/misc/pvh.pandoc) and
//   xen/include/public/arch-x86/hvm/start_info.h. The entry is lib/entry_pvh.S.
// See: the structure's contents and the exit status 33.
#include "acpi.h"
#include "boot.h"
#include "console.h"
#include "multiboot.h"

using namespace payload;

namespace {

struct StartInfo {
  uint32_t magic;
  uint32_t version;
  uint32_t flags;
  uint32_t modules;
  uint64_t module_list;
  uint64_t command_line;
  uint64_t rsdp;
  uint64_t memory_map;  // version 1 and later, from here
  uint32_t memory_map_entries;
  uint32_t reserved;
};
static_assert(sizeof(StartInfo) == 56);

struct Module {
  uint64_t address;
  uint64_t size;
  uint64_t command_line;
  uint64_t reserved;
};

struct Memory {
  uint64_t base;
  uint64_t size;
  uint32_t type;  // as in e820: 1 is RAM
  uint32_t reserved;
};
static_assert(sizeof(Memory) == 24);

constexpr uint32_t kMagic = 0x336EC578;
constexpr uint64_t kOurAddress = 0x100000;

}  // namespace

void payload_main(const Boot& boot) {
  const auto& info = at<StartInfo>(boot.info);
  check(info.magic == kMagic, "the magic of the start info");
  print("version ", info.version, '\n');
  check(info.command_line != 0, "a command line");
  print("command line: ", &at<char>(info.command_line), '\n');

  check(info.version >= 1 && info.memory_map_entries > 0, "a memory map");
  bool contains_us = false;
  uint64_t usable = 0;
  for (uint32_t i = 0; i < info.memory_map_entries; ++i) {
    const auto& entry = at<Memory>(info.memory_map + i * sizeof(Memory));
    print("memory ", Hex{entry.base}, " + ", Hex{entry.size}, " type ", entry.type, '\n');
    if (entry.type != 1) continue;
    usable += entry.size;
    if (entry.base <= kOurAddress && kOurAddress < entry.base + entry.size) contains_us = true;
  }
  check(contains_us, "the map says that the kernel lies in RAM");
  print("usable MiB ", usable >> 20, '\n');

  for (uint32_t i = 0; i < info.modules; ++i) {
    const auto& module = at<Module>(info.module_list + i * sizeof(Module));
    print("module of ", module.size, " bytes: ");
    for (uint64_t n = 0; n < module.size && at<char>(module.address + n) >= ' '; ++n)
      put(at<char>(module.address + n));
    print('\n');
  }

  const uint64_t rsdp = find_rsdp(info.rsdp);
  check(rsdp != 0, "the start info or the search leads to the RSDP");
  check(read_madt(rsdp).cpus >= 1, "the MADT lists a processor");
  print("rsdp at ", Hex{rsdp}, '\n');
  pass();
}
