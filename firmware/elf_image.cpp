// SPDX-License-Identifier: Apache-2.0
#include "firmware/elf_image.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "firmware/wire.h"

namespace vmm::firmware {
namespace {

constexpr uint16_t kMostHeaders = 64;
constexpr uint32_t kXenPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h

template <typename Header, typename ProgramHeader>
Result<ElfImage> parse(std::span<const std::byte> head, std::string_view name) {
  const auto header = peek<Header>(head, 0);
  if (!header) return fail("{}: an ELF file that ends within its header", name);

  ElfImage image;
  image.is64 = sizeof(Header) == sizeof(Elf64_Ehdr);
  image.machine = header->e_machine;
  image.entry = header->e_entry;
  // Either table may be large, or absent; a sum that wraps is larger than any file.
  const auto take_in = [&image](uint64_t offset, uint64_t size) {
    const auto end = Gpa{offset}.plus(size);
    image.file_end = std::max(image.file_end, end ? end->raw : UINT64_MAX);
  };
  take_in(0, sizeof(Header));
  take_in(header->e_phoff, uint64_t{header->e_phnum} * header->e_phentsize);
  take_in(header->e_shoff, uint64_t{header->e_shnum} * header->e_shentsize);
  if (header->e_type != ET_EXEC && header->e_type != ET_DYN) {
    return fail("{}: an ELF file of type {}, not an executable one", name, header->e_type);
  }
  if (header->e_phentsize != sizeof(ProgramHeader)) {
    return fail("{}: an ELF file whose program headers have {} bytes each, not {}", name, header->e_phentsize,
                sizeof(ProgramHeader));
  }
  if (header->e_phnum > kMostHeaders) {
    return fail("{}: an ELF file with {} program headers; a kernel has at most {}", name, header->e_phnum,
                kMostHeaders);
  }
  for (uint16_t i = 0; i < header->e_phnum; ++i) {
    const uint64_t table = header->e_phoff;
    const auto at = Gpa{table}.plus(uint64_t{i} * sizeof(ProgramHeader));
    const auto segment = at ? peek<ProgramHeader>(head, at->raw) : std::nullopt;
    if (!segment) {
      return fail("{}: an ELF file whose program headers are not in its first {} KiB", name,
                  head.size() / 1024);
    }
    const uint64_t file_size = segment->p_filesz;
    const uint64_t memory_size = segment->p_memsz;
    const uint64_t offset = segment->p_offset;
    const Gpa base{segment->p_paddr};
    uint64_t file_end = 0;
    if (__builtin_add_overflow(offset, file_size, &file_end)) {
      return fail("{}: an ELF file whose segment {} wraps around the end of the file's address range", name,
                  i);
    }
    take_in(offset, file_size);
    if (segment->p_type == PT_NOTE && file_size > 0) image.notes.push_back({offset, file_size});
    if (segment->p_type != PT_LOAD || memory_size == 0) continue;
    if (file_size > memory_size) {
      return fail("{}: an ELF file whose segment {} has {} bytes in the file but {} in memory", name, i,
                  file_size, memory_size);
    }
    if (!base.plus(memory_size)) {
      return fail("{}: an ELF file whose segment {} wraps around the end of the address space", name, i);
    }
    image.segments.push_back({offset, file_size, base, memory_size, segment->p_vaddr});
  }
  if (image.segments.empty()) return fail("{}: an ELF file with nothing to load", name);
  std::ranges::sort(image.segments, {},
                    [](const auto& segment) { return std::pair{segment.file_offset, segment.base}; });
  return image;
}

}  // namespace

Gpa ElfImage::lowest() const {
  return std::min_element(segments.begin(), segments.end(),
                          [](const auto& a, const auto& b) { return a.base < b.base; })
      ->base;
}

uint64_t ElfImage::end() const {
  uint64_t end = 0;
  for (const auto& segment : segments) end = std::max(end, segment.base.raw + segment.memory_size);
  return end;
}

bool ElfImage::holds(uint64_t address) const {
  return std::any_of(segments.begin(), segments.end(), [&](const Segment& segment) {
    return address >= segment.base.raw && address - segment.base.raw < segment.memory_size;
  });
}

Result<uint64_t> ElfImage::physical_entry(std::string_view name) const {
  if (holds(entry)) return entry;
  for (const auto& segment : segments) {
    if (entry >= segment.virtual_base && entry - segment.virtual_base < segment.memory_size) {
      return segment.base.raw + (entry - segment.virtual_base);
    }
  }
  return fail("{}: its entry point {:#x} is in none of its segments", name, entry);
}

bool is_elf(std::span<const std::byte> head) {
  return head.size() >= SELFMAG && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> parse_elf(std::span<const std::byte> head, std::string_view name) {
  if (!is_elf(head)) return fail("{}: not an ELF file", name);
  const auto elf_class = peek<uint8_t>(head, EI_CLASS);
  const auto data = peek<uint8_t>(head, EI_DATA);
  if (!elf_class || !data) return fail("{}: an ELF file that ends within its header", name);
  if (*data != ELFDATA2LSB) return fail("{}: a big-endian ELF file, not for x86", name);
  if (*elf_class == ELFCLASS64) return parse<Elf64_Ehdr, Elf64_Phdr>(head, name);
  if (*elf_class == ELFCLASS32) return parse<Elf32_Ehdr, Elf32_Phdr>(head, name);
  return fail("{}: an ELF file of the unknown class {}", name, *elf_class);
}

Result<ElfNotes> read_notes(const InputFile& file, const ElfImage& image) {
  constexpr uint64_t kMostNotes = 64 << 10;  // bytes; Linux has a few hundred
  ElfNotes notes;
  for (const auto& part : image.notes) {
    if (part.file_offset > file.size() || part.size > file.size() - part.file_offset) {
      return fail("{}: an ELF file whose notes lie beyond its end at byte {}: is it truncated?", file.path(),
                  file.size());
    }
    std::vector<std::byte> bytes(static_cast<size_t>(std::min(part.size, kMostNotes)));
    VMM_TRY(file.read(part.file_offset, bytes));
    // Kernels align names and values to 4 bytes in both classes (Linux include/linux/elfnote.h).
    uint64_t offset = 0;
    while (const auto note = peek<Elf64_Nhdr>(bytes, offset)) {
      const uint64_t owner = offset + sizeof(Elf64_Nhdr);
      const uint64_t value = owner + align_up(note->n_namesz, 4);
      const uint64_t next = value + align_up(note->n_descsz, 4);  // 32-bit sizes: no sum wraps
      if (value > bytes.size() || note->n_descsz > bytes.size() - value) break;
      const std::string_view name{reinterpret_cast<const char*>(bytes.data() + owner), note->n_namesz};
      using namespace std::string_view_literals;
      if (name == "Linux\0"sv) notes.linux_kernel = true;
      if (name == "Xen\0"sv && note->n_type == kXenPhys32Entry) {
        if (note->n_descsz == 8) notes.pvh_entry = peek<uint64_t>(bytes, value);
        if (note->n_descsz == 4) notes.pvh_entry = peek<uint32_t>(bytes, value);
        if (!notes.pvh_entry)
          return fail("{}: its PVH note holds {} bytes, not an address", file.path(), note->n_descsz);
      }
      offset = next;
    }
  }
  return notes;
}

}  // namespace vmm::firmware
