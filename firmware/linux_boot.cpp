// SPDX-License-Identifier: Apache-2.0
#include "firmware/linux_boot.h"

#include <algorithm>
#include <cstddef>

#include "firmware/boot_layout.h"
#include "firmware/companions.h"
#include "firmware/cpu_tables.h"

namespace vmm::firmware {
namespace {

static_assert(sizeof(boot_params) == 4096);
static_assert(offsetof(boot_params, hdr) == 0x1f1 && offsetof(boot_params, e820_table) == 0x2d0);

constexpr uint8_t kUnassignedLoader = 0xff;
constexpr uint16_t kNormalVideo = 0xffff;
constexpr uint32_t kSetupRngSeed = 9;  // SETUP_RNG_SEED, known to kernels since 6.0; others skip it

Result<void> describe_memory(std::span<const MemoryRange> map, boot_params& params) {
  if (map.size() > E820_MAX_ENTRIES_ZEROPAGE) {
    return fail("the memory map has {} ranges, boot_params holds {}", map.size(), E820_MAX_ENTRIES_ZEROPAGE);
  }
  size_t count = 0;
  for (const auto& range : map) {
    params.e820_table[count++] = {range.base.raw, range.size, static_cast<uint32_t>(range.type)};
  }
  params.e820_entries = static_cast<uint8_t>(count);
  return {};
}

Result<void> add_random_seed(const GuestMemory& memory, std::span<const std::byte> seed,
                             boot_params& params) {
  if (seed.empty()) return {};
  if (seed.size() > kSetupDataSize - sizeof(setup_data))
    return fail("the random seed has {} bytes", seed.size());
  const setup_data header{.next = 0, .type = kSetupRngSeed, .len = static_cast<uint32_t>(seed.size())};
  const auto to = memory.slice(kSetupData, sizeof(header) + seed.size());
  if (!to) return fail("no RAM for the random seed");
  to->copy_out(std::as_bytes(std::span{&header, 1}));
  to->copy_out(seed, sizeof(header));
  params.hdr.setup_data = kSetupData.raw;
  return {};
}

}  // namespace

setup_header default_setup_header(Gpa base, uint64_t end) {
  setup_header header{};
  header.boot_flag = 0xaa55;
  header.header = 0x53726448;  // "HdrS"
  header.version = 0x020f;
  header.loadflags = LOADED_HIGH;
  header.initrd_addr_max = 0x7fffffff;
  header.kernel_alignment = 0x200000;
  header.xloadflags = XLF_KERNEL_64;
  header.cmdline_size = 2047;  // COMMAND_LINE_SIZE - 1, arch/x86/include/asm/setup.h
  header.pref_address = base.raw;
  header.init_size = static_cast<uint32_t>(std::min<uint64_t>(end - base.raw, UINT32_MAX));
  return header;
}

Result<void> start_linux(LinuxKernel& kernel, const std::string& name, const GuestMemory& memory,
                         const LoadOptions& options, LoadedKernel& loaded) {
  boot_params& params = kernel.params;
  VMM_TRY(write_command_line(memory, options.command_line, params.hdr.cmdline_size, name));
  VMM_TRY_ASSIGN(const auto initrd, load_initrd(memory, options, Gpa{kernel.end},
                                                Gpa{uint64_t{params.hdr.initrd_addr_max} + 1}, loaded));

  params.hdr.type_of_loader = kUnassignedLoader;
  params.hdr.vid_mode = kNormalVideo;
  // The heap is real-mode code's, which does not run. KASLR_FLAG is what kaslr_enabled() asks, and by it the
  // kernel chooses the places of its memory map, its modules and its stacks.
  params.hdr.loadflags &= static_cast<uint8_t>(~(CAN_USE_HEAP | KASLR_FLAG));
  if (kernel.kaslr) params.hdr.loadflags |= KASLR_FLAG;
  params.hdr.cmd_line_ptr = static_cast<uint32_t>(kCommandLine.raw);
  if (initrd) {
    params.hdr.ramdisk_image = static_cast<uint32_t>(initrd->base.raw);
    params.hdr.ramdisk_size = static_cast<uint32_t>(initrd->size);
  }
  if (options.rsdp) params.acpi_rsdp_addr = options.rsdp->raw;
  VMM_TRY(describe_memory(options.memory_map, params));
  VMM_TRY(add_random_seed(memory, options.random_seed, params));
  if (!memory.store(kZeroPage, params)) return fail("{}: no RAM for boot_params", name);

  VMM_TRY_ASSIGN(loaded.boot, kernel.mode == BootState::Mode::long64
                                  ? enter_long64(memory, kernel.entry)
                                  : enter_protected32(memory, static_cast<uint32_t>(kernel.entry)));
  loaded.boot.rsi = kZeroPage.raw;
  return {};
}

}  // namespace vmm::firmware
