// SPDX-License-Identifier: Apache-2.0
#include "firmware/pvh.h"

#include "firmware/boot_layout.h"
#include "firmware/companions.h"
#include "firmware/cpu_tables.h"
#include "firmware/elf_loader.h"

namespace vmm::firmware {
namespace {

struct StartInfo {  // struct hvm_start_info, version 1
  uint32_t magic = 0x336ec578;
  uint32_t version = 1;
  uint32_t flags = 0;
  uint32_t module_count = 0;
  uint64_t modules = 0;
  uint64_t command_line = 0;
  uint64_t rsdp = 0;
  uint64_t memory_map = 0;
  uint32_t memory_map_entries = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct Module {  // struct hvm_modlist_entry
  uint64_t address = 0;
  uint64_t size = 0;
  uint64_t command_line = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(Module) == 32);

struct MapEntry {  // struct hvm_memmap_table_entry; its types are those of E820
  uint64_t address = 0;
  uint64_t size = 0;
  uint32_t type = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(MapEntry) == 24);

constexpr uint64_t kModule = kInfo.raw + 64;
constexpr uint64_t kMap = kModule + sizeof(Module);
constexpr uint64_t kMostEntries = (kInfo.raw + kInfoSize - kMap) / sizeof(MapEntry);

Result<void> describe(const GuestMemory& memory, const LoadOptions& options,
                      const std::optional<Initrd>& initrd) {
  if (options.memory_map.size() > kMostEntries)
    return fail("the memory map has {} ranges", options.memory_map.size());
  StartInfo info;
  info.command_line = kCommandLine.raw;
  if (options.rsdp) info.rsdp = options.rsdp->raw;
  bool stored = true;
  if (initrd) {
    info.module_count = 1;
    info.modules = kModule;
    stored = memory.store(Gpa{kModule}, Module{.address = initrd->base.raw, .size = initrd->size});
  }
  uint64_t at = kMap;
  for (const auto& range : options.memory_map) {
    const MapEntry entry{
        .address = range.base.raw, .size = range.size, .type = static_cast<uint32_t>(range.type)};
    stored = stored && memory.store(Gpa{at}, entry);
    at += sizeof(entry);
  }
  info.memory_map = kMap;
  info.memory_map_entries = static_cast<uint32_t>(options.memory_map.size());
  stored = stored && memory.store(kInfo, info);
  if (!stored) return fail("no RAM for the PVH start info");
  return {};
}

}  // namespace

Result<void> load_pvh(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                      LoadedKernel& loaded) {
  VMM_TRY_ASSIGN(const ElfImage image, load_elf_kernel(file, memory, options.memory_map, loaded));
  VMM_TRY_ASSIGN(const ElfNotes notes, read_notes(file, image));
  if (!notes.pvh_entry) return fail("{}: its PVH note is gone: was the file changed?", file.path());
  if (*notes.pvh_entry > UINT32_MAX || !image.holds(*notes.pvh_entry)) {
    return fail("{}: its PVH entry {:#x} is in none of its segments", file.path(), *notes.pvh_entry);
  }
  VMM_TRY(write_command_line(memory, options.command_line, kCommandLineSize - 1, file.path()));
  constexpr Gpa kFourGiB{1ULL << 32};
  VMM_TRY_ASSIGN(const auto initrd, load_initrd(memory, options, Gpa{image.end()}, kFourGiB, loaded));
  VMM_TRY(describe(memory, options, initrd));
  VMM_TRY_ASSIGN(loaded.boot, enter_protected32(memory, static_cast<uint32_t>(*notes.pvh_entry)));
  loaded.boot.rbx = kInfo.raw;
  loaded.description = "ELF, PVH entry";
  return {};
}

}  // namespace vmm::firmware
