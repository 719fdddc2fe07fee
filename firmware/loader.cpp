// SPDX-License-Identifier: Apache-2.0
#include "firmware/loader.h"

#include <elf.h>
#include <malloc.h>

#include "firmware/boot_layout.h"
#include "firmware/bzimage.h"
#include "firmware/elf_loader.h"
#include "firmware/multiboot.h"
#include "firmware/pvh.h"
#include "vmm/core/log.h"

namespace vmm::firmware {
namespace {

// Where a PC's BIOS puts the first sector of a disk and jumps to.
constexpr Gpa kBootSector{0x7c00};

Result<void> load_linux_elf(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                            LoadedKernel& loaded) {
  VMM_TRY_ASSIGN(const ElfImage image, load_elf_kernel(file, memory, options.memory_map, loaded));
  if (image.machine != EM_X86_64) return fail("{}: an ELF64 that is not for x86-64", file.path());
  LinuxKernel kernel;
  VMM_TRY_ASSIGN(kernel.entry, image.physical_entry(file.path()));
  kernel.end = image.end();
  kernel.params.hdr = default_setup_header(image.lowest(), image.end());
  loaded.description = "ELF64, 64-bit entry";
  if (options.kaslr)
    log(LogLevel::info, "{}: an ELF file has no relocations, it runs where it is linked", file.path());
  return start_linux(kernel, file.path(), memory, options, loaded);
}

Result<void> load_bzimage_kernel(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                                 LoadedKernel& loaded) {
  VMM_TRY_ASSIGN(LinuxKernel kernel, load_bzimage(file, memory, options, loaded));
  return start_linux(kernel, file.path(), memory, options, loaded);
}

Result<void> load_flat(const InputFile& file, const GuestMemory& memory, const LoadOptions& options, Gpa base,
                       LoadedKernel& loaded) {
  const auto start = std::chrono::steady_clock::now();
  constexpr uint64_t kFirst64K = 0x10000;
  if (!options.initrd.empty())
    return fail("{}: a flat binary has no use for the initrd {}", file.path(), options.initrd);
  if (base.raw >= kConventionalEnd || (base.raw >= kFirst64K && base.raw % 16 != 0)) {
    return fail(
        "{}: a flat binary is entered in real mode: its address {:#x} must be below {:#x}, and a multiple of "
        "16 "
        "from 64 KiB on",
        file.path(), base.raw, kConventionalEnd);
  }
  if (file.size() > kConventionalEnd - base.raw) {
    return fail("{}: a flat binary of {} bytes does not fit between {:#x} and {:#x}", file.path(),
                file.size(), base.raw, kConventionalEnd);
  }
  const auto to = memory.slice(base, file.size());
  if (!to) return fail("{}: the machine has no RAM at {:#x}", file.path(), base.raw);
  VMM_TRY(file.read(0, *to));
  // In the first 64 KiB with CS = 0, as a BIOS enters a boot sector.
  const bool low = base.raw < kFirst64K;
  loaded.boot = {.mode = BootState::Mode::real16,
                 .rip = low ? base.raw : 0,
                 .rsp = kBootSector.raw,
                 .code_base = low ? 0 : base.raw};
  loaded.description = fmt::format("flat binary at {:#x}, real mode", base.raw);
  loaded.phases.push_back({"kernel", std::chrono::steady_clock::now() - start, file.size(), file.size()});
  return {};
}

Result<void> load(const KernelFile& kernel, const GuestMemory& memory, const LoadOptions& options,
                  LoadedKernel& loaded) {
  const InputFile& file = kernel.file();
  if (options.flat_address) return load_flat(file, memory, options, *options.flat_address, loaded);
  switch (kernel.kind()) {
    case KernelKind::bzimage:
      return load_bzimage_kernel(file, memory, options, loaded);
    case KernelKind::elf_linux:
    case KernelKind::elf64:
      return load_linux_elf(file, memory, options, loaded);
    case KernelKind::elf_pvh:
      return load_pvh(file, memory, options, loaded);
    case KernelKind::multiboot:
      return load_multiboot(file, memory, options, loaded);
    case KernelKind::boot_sector:
      return load_flat(file, memory, options, kBootSector, loaded);
    case KernelKind::unknown:
      break;
  }
  return fail("{}: {}", kernel.path(), kernel.foreign());
}

}  // namespace

Result<LoadedKernel> load_kernel(const KernelFile& kernel, const GuestMemory& memory,
                                 const LoadOptions& options) {
  LoadedKernel loaded;
  VMM_TRY(load(kernel, memory, options, loaded));
  // Decompressors take tens of MiB. The C library would keep what they gave back, for as long as the guest
  // runs.
  ::malloc_trim(0);
  return loaded;
}

}  // namespace vmm::firmware
