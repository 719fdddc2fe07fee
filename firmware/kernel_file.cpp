// SPDX-License-Identifier: Apache-2.0
#include "firmware/kernel_file.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <vector>

#include "firmware/bzimage.h"
#include "firmware/elf_image.h"
#include "firmware/multiboot.h"
#include "firmware/wire.h"

namespace vmm::firmware {
namespace {

using namespace std::string_view_literals;

// Files that people pass by mistake, by their first bytes or by those at an offset.
struct Foreign {
  uint64_t offset;
  std::string_view magic;
  std::string_view what;
};
constexpr std::array kForeign{
    Foreign{56, "ARM\x64"sv, "an arm64 Image, not for x86-64"},
    Foreign{56, "RSC\x05"sv, "a RISC-V Image, not for x86-64"},
    Foreign{36, "\x18\x28\x6f\x01"sv, "an ARM zImage, not for x86-64"},
    Foreign{0, "\x27\x05\x19\x56"sv, "a U-Boot image, not an x86-64 kernel"},
    Foreign{0, "\x1f\x8b"sv, "gzip-compressed data: decompress it first"},
    Foreign{0,
            "\xfd"
            "7zXZ\0"sv,
            "xz-compressed data: decompress it first"},
    Foreign{0, "\x28\xb5\x2f\xfd"sv, "zstd-compressed data: decompress it first"},
    Foreign{0, "BZh"sv, "bzip2-compressed data: decompress it first"},
    Foreign{0, "0707"sv, "a cpio archive: an initramfs, not a kernel? pass it with --initrd"},
    Foreign{0, "QFI\xfb"sv, "a qcow2 disk image, not a kernel"},
    Foreign{0, "!<arch>\n"sv, "an archive (a .deb or .a), not a kernel: unpack it first"},
    Foreign{0, "#!"sv, "a script, not a kernel"},
    Foreign{0x438, "\x53\xef"sv, "an ext4 file system: a disk, not a kernel? pass it with --disk"},
    Foreign{512, "EFI PART"sv, "a partitioned disk, not a kernel? pass it with --disk"},
    Foreign{0x8001, "CD001"sv, "an ISO 9660 image, not a kernel"},
    Foreign{0, "MZ"sv, "an EFI or Windows program, not a kernel with an x86 boot protocol"},
};

std::optional<std::string_view> find_foreign(std::span<const std::byte> head) {
  for (const auto& foreign : kForeign) {
    if (foreign.offset > head.size() || foreign.magic.size() > head.size() - foreign.offset) continue;
    if (std::memcmp(head.data() + foreign.offset, foreign.magic.data(), foreign.magic.size()) == 0)
      return foreign.what;
  }
  return std::nullopt;
}

std::string machine_name(uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_X86_64:
      return "x86-64";
    case EM_AARCH64:
      return "arm64";
    case EM_ARM:
      return "32-bit ARM";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "POWER";
    case EM_S390:
      return "s390x";
    default:
      return fmt::format("the unknown machine {}", machine);
  }
}

struct Found {
  KernelKind kind = KernelKind::unknown;
  std::string foreign;
};

Result<Found> classify_elf(const InputFile& file, std::span<const std::byte> head) {
  const auto machine =
      peek<uint16_t>(head, offsetof(Elf64_Ehdr, e_machine));  // the same place in both classes
  if (machine && *machine != EM_X86_64 && *machine != EM_386) {
    return Found{KernelKind::unknown,
                 fmt::format("an ELF file for {}, not for x86-64", machine_name(*machine))};
  }
  VMM_TRY_ASSIGN(const ElfImage image, parse_elf(head, file.path()));
  VMM_TRY_ASSIGN(const ElfNotes notes, read_notes(file, image));
  if (image.is64 && notes.linux_kernel) return Found{KernelKind::elf_linux, {}};
  if (notes.pvh_entry) return Found{KernelKind::elf_pvh, {}};
  if (image.is64 && image.machine == EM_X86_64) return Found{KernelKind::elf64, {}};
  return Found{
      .foreign =
          "a 32-bit ELF file with neither a Multiboot header nor a PVH note: nothing says how to enter it"};
}

bool is_boot_sector(std::span<const std::byte> head, uint64_t size) {
  constexpr uint64_t kLargest = 64 << 10;  // a disk image has the signature, too
  return size <= kLargest && peek<uint16_t>(head, 510) == 0xaa55;
}

bool is_multiboot2(std::span<const std::byte> head) {
  for (uint64_t offset = 0; offset < 32768; offset += 8) {
    const auto words = peek<std::array<uint32_t, 4>>(head, offset);
    if (words && (*words)[0] == 0xe85250d6 && (*words)[0] + (*words)[1] + (*words)[2] + (*words)[3] == 0)
      return true;
  }
  return false;
}

Result<Found> classify(const InputFile& file, std::span<const std::byte> head) {
  if (is_bzimage(head)) return Found{KernelKind::bzimage, {}};
  if (find_multiboot(head)) return Found{KernelKind::multiboot, {}};
  if (is_multiboot2(head))
    return Found{KernelKind::unknown, "a Multiboot 2 kernel; only Multiboot 1 is supported"};
  if (is_elf(head)) return classify_elf(file, head);
  if (const auto foreign = find_foreign(head)) return Found{KernelKind::unknown, std::string{*foreign}};
  if (is_boot_sector(head, file.size())) return Found{KernelKind::boot_sector, {}};
  return Found{.foreign =
                   "not a known kind of kernel (bzImage, ELF, PVH, Multiboot): for a flat binary, name its "
                   "place with --flat-address"};
}

}  // namespace

std::string_view to_string(KernelKind kind) {
  switch (kind) {
    case KernelKind::bzimage:
      return "bzImage";
    case KernelKind::elf_linux:
      return "ELF64 vmlinux";
    case KernelKind::elf_pvh:
      return "ELF with a PVH note";
    case KernelKind::elf64:
      return "ELF64";
    case KernelKind::multiboot:
      return "Multiboot kernel";
    case KernelKind::boot_sector:
      return "boot sector";
    case KernelKind::unknown:
      return "unknown file";
  }
  return "unknown file";
}

Result<KernelFile> KernelFile::open(const std::string& path) {
  VMM_TRY_ASSIGN(InputFile file, InputFile::open(path, "kernel"));
  std::vector<std::byte> head(static_cast<size_t>(std::min<uint64_t>(file.size(), kElfHead)));
  VMM_TRY(file.read(0, std::span{head}));
  VMM_TRY_ASSIGN(Found found, classify(file, head));
  return KernelFile{std::move(file), found.kind, std::move(found.foreign)};
}

}  // namespace vmm::firmware
