// SPDX-License-Identifier: Apache-2.0
#include "firmware/multiboot.h"

#include <algorithm>
#include <string_view>

#include "firmware/boot_layout.h"
#include "firmware/companions.h"
#include "firmware/cpu_tables.h"
#include "firmware/elf_loader.h"
#include "firmware/wire.h"

namespace vmm::firmware {
namespace {

constexpr uint32_t kHeaderMagic = 0x1badb002;
constexpr uint32_t kLoaderMagic = 0x2badb002;
constexpr uint64_t kSearched = 8192;

// Header flags (3.1.2): bits 0 to 15 must be understood, the others need not.
constexpr uint32_t kKnownFlags = 0x7;
constexpr uint32_t kMustKnow = 0xffff;
constexpr uint32_t kHasAddresses = 1U << 16;

// Information flags (3.3).
constexpr uint32_t kInfoMemory = 1U << 0;
constexpr uint32_t kInfoCommandLine = 1U << 2;
constexpr uint32_t kInfoModules = 1U << 3;
constexpr uint32_t kInfoMap = 1U << 6;
constexpr uint32_t kInfoName = 1U << 9;

struct Information {  // up to boot_loader_name; what follows has no flag here and is not read
  uint32_t flags = 0;
  uint32_t memory_lower = 0;  // KiB from 0
  uint32_t memory_upper = 0;  // KiB from 1 MiB
  uint32_t boot_device = 0;
  uint32_t command_line = 0;
  uint32_t module_count = 0;
  uint32_t modules = 0;
  std::array<uint32_t, 4> symbols{};
  uint32_t map_length = 0;
  uint32_t map = 0;
  uint32_t drives_length = 0;
  uint32_t drives = 0;
  uint32_t config_table = 0;
  uint32_t loader_name = 0;
  std::array<uint32_t, 12> unused{};  // APM, VBE, framebuffer: the structure has 116 bytes in all
};
static_assert(sizeof(Information) == 116);

struct Module {
  uint32_t start = 0;
  uint32_t end = 0;
  uint32_t text = 0;
  uint32_t reserved = 0;
};

struct [[gnu::packed]] MapEntry {
  uint32_t size = 20;  // of what follows
  uint64_t base = 0;
  uint64_t length = 0;
  uint32_t type = 0;  // as E820
};
static_assert(sizeof(MapEntry) == 24);

// Information, module, map and strings, one after another from kInfo on.
class InfoWriter {
 public:
  explicit InfoWriter(const GuestMemory& memory) : memory_(memory) {}

  uint32_t put(std::span<const std::byte> bytes) {
    const uint64_t at = next_;
    const uint64_t end = at + bytes.size();
    ok_ = ok_ && end <= kInfo.raw + kInfoSize && memory_.write(Gpa{at}, bytes);
    if (ok_) next_ = align_up(end, 8);
    return static_cast<uint32_t>(at);
  }
  template <typename T>
  uint32_t put_struct(const T& value) {
    return put(std::as_bytes(std::span{&value, 1}));
  }
  uint32_t put_text(std::string_view text) {
    std::string with_zero{text};
    return put(std::as_bytes(std::span{with_zero.c_str(), with_zero.size() + 1}));
  }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  const GuestMemory& memory_;
  uint64_t next_ = align_up(kInfo.raw + sizeof(Information), 8);
  bool ok_ = true;
};

uint64_t upper_memory(std::span<const MemoryRange> map) {
  for (const auto& range : map) {
    if (range.type == MemoryType::ram && range.base.raw == kOneMiB) return range.size;
  }
  return 0;
}

Result<void> describe(const GuestMemory& memory, const LoadOptions& options,
                      const std::optional<Initrd>& module) {
  InfoWriter writer{memory};
  Information info{.flags = kInfoMemory | kInfoCommandLine | kInfoMap | kInfoName};
  info.memory_lower = kConventionalEnd / 1024;
  info.memory_upper = static_cast<uint32_t>(upper_memory(options.memory_map) / 1024);
  info.command_line = static_cast<uint32_t>(kCommandLine.raw);
  info.loader_name = writer.put_text("vmm");
  if (module) {
    const auto start = static_cast<uint32_t>(module->base.raw);
    const uint32_t text = writer.put_text(options.initrd);
    info.flags |= kInfoModules;
    info.module_count = 1;
    info.modules = writer.put_struct(Module{start, static_cast<uint32_t>(start + module->size), text, 0});
  }
  std::vector<MapEntry> map;
  map.reserve(options.memory_map.size());
  for (const auto& range : options.memory_map) {
    map.push_back({.base = range.base.raw, .length = range.size, .type = static_cast<uint32_t>(range.type)});
  }
  info.map_length = static_cast<uint32_t>(map.size() * sizeof(MapEntry));
  info.map = writer.put(std::as_bytes(std::span{map}));
  if (!writer.ok() || !memory.store(kInfo, info)) {
    return fail("the Multiboot information (memory map, the path of the module) does not fit into {} bytes",
                kInfoSize);
  }
  return {};
}

struct Loaded {
  uint32_t entry = 0;
  uint64_t end = 0;
};

// The kernel as its header's address fields say.
Result<Loaded> load_by_addresses(const InputFile& file, const MultibootHeader& header,
                                 const GuestMemory& memory, std::span<const MemoryRange> map,
                                 LoadedKernel& loaded) {
  const auto start = std::chrono::steady_clock::now();
  const uint64_t before_header = uint64_t{header.header_address} - header.load_address;
  if (header.header_address < header.load_address || before_header > header.file_offset) {
    return fail("{}: a Multiboot header at {:#x} in the file cannot be at {:#x} of an image loaded at {:#x}",
                file.path(), header.file_offset, header.header_address, header.load_address);
  }
  const uint64_t offset = header.file_offset - before_header;
  const uint64_t in_file = file.size() - offset;
  const uint64_t size = header.load_end == 0 ? in_file : uint64_t{header.load_end} - header.load_address;
  if (header.load_end != 0 && (header.load_end < header.load_address || size > in_file)) {
    return fail(
        "{}: its Multiboot header wants the bytes up to {:#x}, the file ends before: is it truncated?",
        file.path(), header.load_end);
  }
  const uint64_t end = std::max<uint64_t>(header.load_address + size, header.bss_end);
  ElfImage image;
  image.segments.push_back(
      {offset, size, Gpa{header.load_address}, end - header.load_address, header.load_address});
  VMM_TRY(check_placement(image, map, file.path()));
  if (!image.holds(header.entry)) {
    return fail("{}: its Multiboot entry {:#x} is outside of what it loads", file.path(), header.entry);
  }
  VMM_TRY_ASSIGN(const uint64_t bytes, load_segments(file, image, memory));
  loaded.phases.push_back({"kernel", std::chrono::steady_clock::now() - start, bytes, bytes});
  return Loaded{header.entry, end};
}

Result<Loaded> load_elf(const InputFile& file, const GuestMemory& memory, std::span<const MemoryRange> map,
                        LoadedKernel& loaded) {
  VMM_TRY_ASSIGN(const ElfImage image, load_elf_kernel(file, memory, map, loaded));
  VMM_TRY_ASSIGN(const uint64_t entry, image.physical_entry(file.path()));
  if (entry > UINT32_MAX) return fail("{}: a Multiboot kernel with its entry above 4 GiB", file.path());
  return Loaded{static_cast<uint32_t>(entry), image.end()};
}

}  // namespace

std::optional<MultibootHeader> find_multiboot(std::span<const std::byte> head) {
  head = head.first(std::min<size_t>(head.size(), kSearched));
  for (uint64_t offset = 0; offset + 12 <= head.size(); offset += 4) {
    const auto words = peek<std::array<uint32_t, 3>>(head, offset);
    if (!words || (*words)[0] != kHeaderMagic || (*words)[0] + (*words)[1] + (*words)[2] != 0) continue;
    MultibootHeader header{.file_offset = offset, .flags = (*words)[1]};
    if ((header.flags & kHasAddresses) != 0) {
      const auto fields = peek<std::array<uint32_t, 5>>(head, offset + 12);
      if (!fields) return std::nullopt;
      header.header_address = (*fields)[0];
      header.load_address = (*fields)[1];
      header.load_end = (*fields)[2];
      header.bss_end = (*fields)[3];
      header.entry = (*fields)[4];
    }
    return header;
  }
  return std::nullopt;
}

Result<void> load_multiboot(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                            LoadedKernel& loaded) {
  std::vector<std::byte> head(static_cast<size_t>(std::min(file.size(), kSearched)));
  VMM_TRY(file.read(0, std::span{head}));
  const auto header = find_multiboot(head);
  if (!header) return fail("{}: its Multiboot header is gone: was the file changed?", file.path());
  if (const uint32_t unknown = header->flags & kMustKnow & ~kKnownFlags; unknown != 0) {
    return fail("{}: its Multiboot header asks for features {:#x} that are not known here", file.path(),
                unknown);
  }
  const bool has_addresses = (header->flags & kHasAddresses) != 0;
  VMM_TRY_ASSIGN(const Loaded kernel,
                 has_addresses ? load_by_addresses(file, *header, memory, options.memory_map, loaded)
                               : load_elf(file, memory, options.memory_map, loaded));
  VMM_TRY(write_command_line(memory, options.command_line, kCommandLineSize - 1, file.path()));
  constexpr Gpa kFourGiB{1ULL << 32};
  VMM_TRY_ASSIGN(const auto module, load_initrd(memory, options, Gpa{kernel.end}, kFourGiB, loaded));
  VMM_TRY(describe(memory, options, module));
  VMM_TRY_ASSIGN(loaded.boot, enter_protected32(memory, kernel.entry));
  loaded.boot.rax = kLoaderMagic;
  loaded.boot.rbx = kInfo.raw;
  loaded.description = has_addresses ? "Multiboot, by its header's addresses" : "Multiboot, ELF";
  return {};
}

}  // namespace vmm::firmware
