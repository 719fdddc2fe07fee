// SPDX-License-Identifier: Apache-2.0
// The information structure of Multiboot Specification 0.6.96, section 3.3, as far as payloads read it.
#pragma once

#include <stdint.h>

namespace payload {

constexpr uint32_t kMultibootMagic = 0x2BADB002;

enum MultibootFlags : uint32_t {
  kMultibootMemory = 1u << 0,
  kMultibootCommandLine = 1u << 2,
  kMultibootModules = 1u << 3,
  kMultibootMemoryMap = 1u << 6,
  kMultibootLoaderName = 1u << 9,
};

struct MultibootInfo {
  uint32_t flags;
  uint32_t mem_lower;  // KiB from 0
  uint32_t mem_upper;  // KiB from 1 MiB
  uint32_t boot_device;
  uint32_t cmdline;
  uint32_t mods_count;
  uint32_t mods_addr;
  uint32_t syms[4];
  uint32_t mmap_length;
  uint32_t mmap_addr;
  uint32_t drives_length;
  uint32_t drives_addr;
  uint32_t config_table;
  uint32_t boot_loader_name;
};
static_assert(sizeof(MultibootInfo) == 68);

struct [[gnu::packed]] MultibootMemory {
  uint32_t size;  // of the entry without this field: how a reader finds the next
  uint64_t base;
  uint64_t length;
  uint32_t type;  // 1 is usable RAM
};
static_assert(sizeof(MultibootMemory) == 24);

struct MultibootModule {
  uint32_t start;
  uint32_t end;  // first byte after
  uint32_t string;
  uint32_t reserved;
};

// What a pointer of the 32-bit protocols points at.
template <class T>
const T& at(uint64_t address) {
  return *reinterpret_cast<const T*>(address);
}

inline const char* multiboot_command_line(uint64_t info) {
  const auto& mb = at<MultibootInfo>(info);
  return (mb.flags & kMultibootCommandLine) != 0 ? &at<char>(mb.cmdline) : "";
}

}  // namespace payload
