// SPDX-License-Identifier: Apache-2.0
#include "firmware/symbols.h"

#include <elf.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "firmware/elf_image.h"
#include "firmware/input_file.h"
#include "firmware/wire.h"

namespace vmm::firmware {
namespace {

constexpr uint64_t kMostBytes = 256ULL << 20;
constexpr size_t kMostSymbols = 4'000'000;
constexpr size_t kLongestName = 255;
constexpr uint64_t kFarthest = 1ULL << 20;
constexpr uint64_t kLinuxBase =
    0xffffffff80000000;  // __START_KERNEL_map, arch/x86/include/asm/page_64_types.h

Result<std::vector<std::byte>> read_part(const InputFile& file, uint64_t offset, uint64_t size) {
  if (size > kMostBytes)
    return fail("read symbols of {}: a table of {} MiB is too large", file.path(), size >> 20);
  if (offset > file.size() || size > file.size() - offset) {
    return fail("read symbols of {}: its tables lie beyond its end: is it truncated?", file.path());
  }
  std::vector<std::byte> bytes(static_cast<size_t>(size));
  VMM_TRY(file.read(offset, std::span{bytes}));
  return bytes;
}

// The string at `offset`, without its zero; empty if it does not end.
std::string_view text_at(std::span<const std::byte> strings, uint64_t offset) {
  if (offset >= strings.size()) return {};
  const std::string_view rest{
      reinterpret_cast<const char*>(strings.data() + offset),
      static_cast<size_t>(std::min<uint64_t>(strings.size() - offset, kLongestName + 1))};
  const size_t end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view{} : rest.substr(0, end);
}

template <typename Header, typename SectionHeader, typename ElfSymbol>
Result<void> read_elf(const InputFile& file, const Header& header, SymbolTable& table) {
  if (header.e_shentsize != sizeof(SectionHeader)) return {};
  VMM_TRY_ASSIGN(const auto sections,
                 read_part(file, header.e_shoff, uint64_t{header.e_shnum} * sizeof(SectionHeader)));
  for (uint64_t at = 0; const auto section = peek<SectionHeader>(sections, at); at += sizeof(SectionHeader)) {
    if (section->sh_type != SHT_SYMTAB) continue;
    const auto strings_header =
        peek<SectionHeader>(sections, uint64_t{section->sh_link} * sizeof(SectionHeader));
    if (!strings_header) return fail("read symbols of {}: its symbol table has no names", file.path());
    VMM_TRY_ASSIGN(const auto entries, read_part(file, section->sh_offset, section->sh_size));
    VMM_TRY_ASSIGN(const auto strings, read_part(file, strings_header->sh_offset, strings_header->sh_size));
    for (uint64_t entry = 0; const auto symbol = peek<ElfSymbol>(entries, entry);
         entry += sizeof(ElfSymbol)) {
      // Labels of assembly have no type, and they are what one meets while a kernel starts.
      const unsigned type = ELF64_ST_TYPE(symbol->st_info);  // the same in both classes
      if ((type != STT_FUNC && type != STT_NOTYPE) || symbol->st_shndx == SHN_UNDEF ||
          symbol->st_shndx >= SHN_LORESERVE) {
        continue;
      }
      table.add(symbol->st_value, text_at(strings, symbol->st_name));
    }
    return {};  // a file has at most one (System V ABI, "Sections")
  }
  return {};
}

// "ffffffff81000000 T _text", one a line; kallsyms adds "\t[module]".
void read_lines(std::string_view text, SymbolTable& table) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    uint64_t address = 0;
    const auto [after, error] = std::from_chars(line.data(), line.data() + line.size(), address, 16);
    const std::string_view rest = line.substr(static_cast<size_t>(after - line.data()));
    if (error != std::errc{} || rest.size() < 4 || rest[0] != ' ' || rest[2] != ' ') continue;
    if (std::string_view{"tTwW"}.find(rest[1]) == std::string_view::npos) continue;
    const std::string_view name = rest.substr(3);
    table.add(address, name.substr(0, name.find_first_of("\t ")));
  }
}

Result<void> read_any(const InputFile& file, SymbolTable& table) {
  std::vector<std::byte> head(static_cast<size_t>(std::min<uint64_t>(file.size(), sizeof(Elf64_Ehdr))));
  VMM_TRY(file.read(0, std::span{head}));
  if (!is_elf(head)) {
    VMM_TRY_ASSIGN(const auto bytes, read_part(file, 0, file.size()));
    read_lines({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, table);
    return {};
  }
  const auto elf_class = peek<uint8_t>(head, EI_CLASS);
  if (elf_class == ELFCLASS64) {
    if (const auto header = peek<Elf64_Ehdr>(head, 0)) {
      return read_elf<Elf64_Ehdr, Elf64_Shdr, Elf64_Sym>(file, *header, table);
    }
  }
  if (elf_class == ELFCLASS32) {
    if (const auto header = peek<Elf32_Ehdr>(head, 0)) {
      return read_elf<Elf32_Ehdr, Elf32_Shdr, Elf32_Sym>(file, *header, table);
    }
  }
  return fail("read symbols of {}: an ELF file that ends within its header", file.path());
}

}  // namespace

Result<SymbolTable> SymbolTable::load(const std::string& path) {
  VMM_TRY_ASSIGN(const InputFile file, InputFile::open(path, "symbols"));
  SymbolTable table;
  VMM_TRY(read_any(file, table));
  table.sort();
  if (table.size() == 0) {
    return fail(
        "read symbols of {}: it names no functions (a distribution strips its kernels and ships the real "
        "System.map in a package of debug symbols)",
        path);
  }
  return table;
}

void SymbolTable::add(uint64_t address, std::string_view name) {
  // Address 0 is what /proc/kallsyms shows to those who may not see addresses.
  if (address == 0 || name.empty() || name.size() > kLongestName || symbols_.size() >= kMostSymbols) return;
  if (!std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; })) return;
  if (names_.size() + name.size() + 1 > kMostBytes) return;
  symbols_.push_back({address, static_cast<uint32_t>(names_.size())});
  names_.append(name).push_back('\0');
}

void SymbolTable::sort() {
  // Names are numbered as they come, so that of two at one address the first one stays.
  std::ranges::sort(symbols_, {}, [](const auto& symbol) { return std::pair{symbol.address, symbol.name}; });
  const auto same = [](const auto& a, const auto& b) { return a.address == b.address; };
  symbols_.erase(std::unique(symbols_.begin(), symbols_.end(), same), symbols_.end());
}

std::optional<std::string> SymbolTable::find(uint64_t address) const {
  auto next = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                               [](uint64_t value, const Symbol& symbol) { return value < symbol.address; });
  if (next == symbols_.begin()) return std::nullopt;
  const Symbol& symbol = *--next;
  const uint64_t offset = address - symbol.address;
  if (offset > kFarthest) return std::nullopt;
  const char* const text = names_.c_str() + symbol.name;
  return offset == 0 ? std::string{text} : fmt::format("{}+{:#x}", text, offset);
}

std::optional<std::string> SymbolTable::name(uint64_t address, const KernelSlide& slide) const {
  auto found = find(address - slide.virtual_bytes);
  const uint64_t physical = address - slide.physical_bytes;
  if (!found && address < (1ULL << 32) && physical < (1ULL << 30)) found = find(physical + kLinuxBase);
  return found;
}

}  // namespace vmm::firmware
