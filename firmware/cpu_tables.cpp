// SPDX-License-Identifier: Apache-2.0
#include "firmware/cpu_tables.h"

#include <array>

#include "firmware/boot_layout.h"

namespace vmm::firmware {
namespace {

// Segment descriptors (Intel SDM vol. 3, 3.4.5): base 0, limit 4 GiB, present, ring 0, accessed.
constexpr uint64_t kCode32 = 0x00cf'9b00'0000'ffff;  // execute/read, D = 1
constexpr uint64_t kCode64 = 0x00af'9b00'0000'ffff;  // execute/read, L = 1
constexpr uint64_t kData = 0x00cf'9300'0000'ffff;    // read/write

Result<BootState> with_gdt(const GuestMemory& memory, uint64_t code, BootState state) {
  const std::array<uint64_t, 4> gdt{0, 0, code, kData};
  static_assert(BootState::kCodeSelector == 2 * 8 && BootState::kDataSelector == 3 * 8);
  if (!memory.store(kGdt, gdt))
    return fail("the machine has no RAM below 128 KiB, where a kernel's tables go");
  state.gdt = kGdt;
  state.gdt_limit = sizeof(gdt) - 1;
  state.rsp = kStackTop.raw;
  return state;
}

}  // namespace

Result<BootState> enter_protected32(const GuestMemory& memory, uint32_t entry) {
  return with_gdt(memory, kCode32, {.mode = BootState::Mode::protected32, .rip = entry});
}

Result<BootState> enter_long64(const GuestMemory& memory, uint64_t entry) {
  // Paging (Intel SDM vol. 3, 4.5): one PML4 entry, four PDPT entries, four directories of 2 MiB pages. Pages
  // of 1 GiB would need fewer tables, but not every processor has them.
  constexpr uint64_t kPresentWritable = 0x3;
  constexpr uint64_t kLargePage = 0x80;
  constexpr uint64_t kDirectories = 4;
  using Table = std::array<uint64_t, 512>;
  std::array<Table, 2 + kDirectories> tables{};
  const uint64_t base = kPageTables.raw;
  tables[0][0] = (base + sizeof(Table)) | kPresentWritable;
  for (uint64_t i = 0; i < kDirectories; ++i) {
    tables[1][i] = (base + (2 + i) * sizeof(Table)) | kPresentWritable;
    for (uint64_t page = 0; page < 512; ++page) {
      tables[2 + i][page] = ((i * 512 + page) << 21) | kLargePage | kPresentWritable;
    }
  }
  static_assert(kPageTables.raw + sizeof(tables) <= kSetupData.raw);
  if (!memory.store(kPageTables, tables))
    return fail("the machine has no RAM below 128 KiB, where page tables go");
  return with_gdt(memory, kCode64,
                  {.mode = BootState::Mode::long64, .rip = entry, .page_tables = kPageTables});
}

}  // namespace vmm::firmware
