// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/memory_use.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string_view>

namespace vmm {
namespace {

bool is_guest(const GuestMemory& memory, uint64_t address) {
  return std::ranges::any_of(memory.regions(), [&](const GuestMemory::Region& region) {
    const auto begin = reinterpret_cast<uintptr_t>(region.mapping.data());
    return address >= begin && address - begin < region.mapping.size();
  });
}

}  // namespace

MemoryUse measure_memory(const GuestMemory& memory) {
  MemoryUse use;
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen("/proc/self/smaps", "re"), &std::fclose};
  if (!file) return use;
  // A mapping's addresses and what is mapped, "7f04b45dd000-7f04b45e0000 rw-p 00000000 08:02 1234  /lib/…",
  // then what it has, "Pss:  12 kB". Pages of the host's huge page pool are in neither Rss nor Pss.
  bool guest = false;
  uint64_t* kind = &use.other;
  constexpr const char* kMapping = "%llx-%*s %*s %*s %*s %*s %15s";
  char line[4096];
  while (std::fgets(line, sizeof line, file.get()) != nullptr) {
    unsigned long long begin = 0;
    unsigned long long kib = 0;
    char name[32];
    char mapped[16] = "";
    if (std::sscanf(line, "%31[A-Za-z_]: %llu kB", name, &kib) == 2) {  // NOLINT(cert-err34-c)
      const std::string_view what = name;
      const bool pool = what == "Private_Hugetlb" || what == "Shared_Hugetlb";
      if (guest && (what == "Rss" || pool)) use.guest += uint64_t{kib} * 1024;
      if (!guest && (what == "Pss" || pool)) *kind += uint64_t{kib} * 1024;
    } else if (std::sscanf(line, kMapping, &begin, mapped) >= 1) {  // NOLINT(cert-err34-c)
      guest = is_guest(memory, begin);
      const std::string_view what = mapped;
      const bool is_file = what.starts_with('/') && !what.starts_with("/memfd:");
      kind = what == "[heap]" ? &use.heap : is_file ? &use.program : &use.other;
    }
  }
  return use;
}

}  // namespace vmm
