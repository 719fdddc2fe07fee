// SPDX-License-Identifier: Apache-2.0
// Lesson: what a Multiboot 1 loader tells a kernel.
//
// Shows: the memory map, the command line, the modules, each checked against the others and printed.
// Manual: Multiboot Specification 0.6.96, 3.3 "Boot information format".
// See: the structure's contents and the exit status 33.
#include "boot.h"
#include "console.h"
#include "multiboot.h"

using namespace payload;

namespace {

constexpr uint64_t kOurAddress = 0x100000;

void memory_map(const MultibootInfo& info) {
  check((info.flags & kMultibootMemoryMap) != 0, "flag 6: a memory map");
  bool contains_us = false;
  uint64_t usable = 0;
  const uint64_t end = uint64_t{info.mmap_addr} + info.mmap_length;
  for (uint64_t next = info.mmap_addr; next < end;) {
    const auto& entry = at<MultibootMemory>(next);
    check(entry.size >= 20, "size of a memory map entry");
    print("memory ", Hex{entry.base}, " + ", Hex{entry.length}, " type ", entry.type, '\n');
    if (entry.type == 1) {
      usable += entry.length;
      if (entry.base <= kOurAddress && kOurAddress < entry.base + entry.length) {
        contains_us = true;
        check((info.flags & kMultibootMemory) != 0, "flag 0: lower and upper memory");
        // mem_upper is the run of RAM from 1 MiB, in KiB; it may be given up to 1 MiB short.
        const uint64_t run = (entry.base + entry.length - kOurAddress) / 1024;
        check(info.mem_upper <= run && info.mem_upper + 1024 >= run, "mem_upper agrees with the map");
      }
    }
    next += entry.size + sizeof(entry.size);
  }
  check(contains_us, "the map says that the kernel lies in RAM");
  check(info.mem_lower >= 500 && info.mem_lower <= 640, "mem_lower");
  print("usable MiB ", usable >> 20, '\n');
}

void modules(const MultibootInfo& info) {
  if ((info.flags & kMultibootModules) == 0) return;
  for (uint32_t i = 0; i < info.mods_count; ++i) {
    const auto& module = at<MultibootModule>(info.mods_addr + i * sizeof(MultibootModule));
    check(module.end > module.start, "a module has bytes");
    check(module.start >= kOurAddress, "a module lies above 1 MiB");
    check(module.start % 4096 == 0, "header flag 0: modules on page boundaries");
    print("module of ", module.end - module.start, " bytes: ");
    for (uint32_t at_byte = module.start; at_byte < module.end && at<char>(at_byte) >= ' '; ++at_byte) {
      put(at<char>(at_byte));
    }
    print('\n');
  }
}

}  // namespace

void payload_main(const Boot& boot) {
  check(boot.magic == kMultibootMagic, "EAX has the Multiboot magic");
  const auto& info = at<MultibootInfo>(boot.info);
  print("flags ", Hex{info.flags}, '\n');
  check((info.flags & kMultibootCommandLine) != 0, "flag 2: a command line");
  print("command line: ", multiboot_command_line(boot.info), '\n');
  memory_map(info);
  modules(info);
  pass();
}
