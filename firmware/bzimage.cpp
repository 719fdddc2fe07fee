// SPDX-License-Identifier: Apache-2.0
#include "firmware/bzimage.h"

#include <elf.h>

#include <array>
#include <bit>
#include <cstring>

#include "firmware/boot_layout.h"
#include "firmware/companions.h"
#include "firmware/decompress.h"
#include "firmware/elf_loader.h"
#include "firmware/kaslr.h"
#include "firmware/kernel_cache.h"
#include "firmware/kernel_image.h"
#include "firmware/relocations.h"
#include "firmware/wire.h"
#include "vmm/core/guest_pages.h"
#include "vmm/core/log.h"

namespace vmm::firmware {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint64_t kHeaderStart = 0x1f1;  // of setup_header in the file and in boot_params
constexpr uint64_t kHeaderRoom = 0x290;   // where it ends at the latest
constexpr uint32_t kHdrS = 0x53726448;
constexpr uint16_t kBootFlag = 0xaa55;
constexpr uint16_t kOldest = 0x020c;
constexpr uint64_t k64BitEntry = 0x200;

// Where the parts of the file are; all inside it.
struct Parts {
  uint64_t code = 0;  // protected-mode code: offset and size
  uint64_t code_size = 0;
  uint64_t payload = 0;  // compressed vmlinux: offset and size; size 0 if the header does not say
  uint64_t payload_size = 0;
};

Result<boot_params> read_header(const InputFile& file) {
  // The byte at 0x201 is the operand of the jump at 0x200, over the header: it tells how long the header is.
  std::array<std::byte, kHeaderRoom> head{};
  if (file.size() < head.size()) {
    return fail("{}: a bzImage of only {} bytes, it ends within its setup header: is it truncated?",
                file.path(), file.size());
  }
  VMM_TRY(file.read(0, std::span{head}));
  const uint64_t end = std::min<uint64_t>(0x202 + std::to_integer<uint64_t>(head[0x201]), kHeaderRoom);
  boot_params params{};
  std::memcpy(reinterpret_cast<std::byte*>(&params) + kHeaderStart, head.data() + kHeaderStart,
              end - kHeaderStart);
  const uint16_t version = params.hdr.version;
  if (version < kOldest ||
      end < kHeaderStart + sizeof(setup_header) - sizeof(setup_header::kernel_info_offset)) {
    return fail("{}: a bzImage of boot protocol {}.{:02}; 2.12 or later is needed (Linux 3.8)", file.path(),
                version >> 8, version & 0xff);
  }
  return params;
}

Result<Parts> find_parts(const InputFile& file, const setup_header& header) {
  Parts parts;
  const uint64_t setup_sectors = header.setup_sects == 0 ? 4 : header.setup_sects;
  parts.code = (setup_sectors + 1) * kSector;
  // In units of 16 bytes; some linkers leave the last one unfilled.
  parts.code_size = uint64_t{header.syssize} * 16;
  if (parts.code >= file.size() || file.size() - parts.code + 15 < parts.code_size || parts.code_size == 0) {
    return fail("{}: a bzImage of {} bytes where its header promises {}: is it truncated?", file.path(),
                file.size(), parts.code + parts.code_size);
  }
  parts.code_size = std::min(parts.code_size, file.size() - parts.code);
  const uint64_t offset = header.payload_offset;
  const uint64_t size = header.payload_length;
  if (size > 8 && offset < parts.code_size && size <= parts.code_size - offset) {
    parts.payload = parts.code + offset;
    parts.payload_size = size;
  }
  return parts;
}

Result<std::optional<Codec>> payload_codec(const InputFile& file, const Parts& parts) {
  if (parts.payload_size == 0) return std::nullopt;
  std::array<std::byte, 8> first{};
  VMM_TRY(file.read(parts.payload, std::span{first}));
  const auto codec = detect_codec(first);
  return codec && can_decompress(*codec) ? codec : std::nullopt;
}

// What is asked of the vmlinux before it is placed.
struct Subject {
  const InputFile& file;
  const setup_header& header;
  const GuestMemory& memory;
  const LoadOptions& options;
};

struct Place {
  Gpa base;
  std::optional<uint64_t> slide;  // of its virtual addresses; none: it is not moved
};

uint64_t room_of(const Subject& subject, uint64_t size) {
  return std::max<uint64_t>(size, subject.header.init_size);
}

// Where a kernel of `size` bytes goes that is linked to run at `linked`.
Result<Place> choose_place(const Subject& subject, Gpa linked, uint64_t size, bool relocations) {
  const auto& [file, header, memory, options] = subject;
  const uint64_t room = room_of(subject, size);
  const auto wish = read_kaslr_wish(options.command_line);
  constexpr uint32_t kLeastAlignment = 2U << 20;  // MIN_KERNEL_ALIGN: startup_64 goes no further with less
  const bool can_move = relocations && header.relocatable_kernel != 0 &&
                        header.kernel_alignment >= kLeastAlignment &&
                        std::has_single_bit(header.kernel_alignment);
  Place place{.base = linked, .slide = {}};
  if (options.kaslr && wish.any && can_move) {
    VMM_TRY(check_ram(options.memory_map, linked, room, file.path()));
    KaslrRequest request{.linked = linked, .room = room, .alignment = header.kernel_alignment, .ceiling = {}};
    VMM_TRY_ASSIGN(request.ceiling,
                   initrd_floor(options, Gpa{linked.raw + room}, Gpa{uint64_t{header.initrd_addr_max} + 1}));
    if (wish.physical) {
      place.base = choose_base(options.memory_map, request, (*options.kaslr)[0]).value_or(linked);
    }
    place.slide = choose_slide(request, (*options.kaslr)[1]);
  } else if (options.kaslr && wish.any) {
    log(LogLevel::info, "{}: a kernel without relocations, it runs where it is linked", file.path());
  }
  return place;
}

// The vmlinux inside, straight to where it runs.
Result<KernelImage> unpack(const Subject& subject, const Parts& parts, Codec codec, Place& place,
                           LoadPhase& phase) {
  const auto& [file, header, memory, options] = subject;
  // The build appends the unpacked size to every format but gzip, which ends with it anyway.
  uint32_t unpacked = 0;
  VMM_TRY(file.read(parts.payload + parts.payload_size - sizeof(unpacked),
                    std::as_writable_bytes(std::span{&unpacked, 1})));
  const uint64_t stream = codec == Codec::gzip ? parts.payload_size : parts.payload_size - sizeof(unpacked);
  if (unpacked > memory.size()) {
    return fail("{}: too little memory: its vmlinux alone has {} MiB, the machine {}; use a larger --memory",
                file.path(), mib_up(unpacked), memory.size() >> 20);
  }
  KernelImage kernel;
  ByteSource source{file, parts.payload, stream};
  ElfSink sink{memory, options.memory_map, file.path(), unpacked,
               [&](const ElfImage& image, uint64_t tail) -> Result<Gpa> {
                 if (!image.is64 || image.machine != EM_X86_64) {
                   return fail("{}: a bzImage with 64-bit entry whose vmlinux is not an ELF64 for x86-64",
                               file.path());
                 }
                 VMM_TRY_ASSIGN(const uint64_t entry, image.physical_entry(file.path()));
                 kernel.linked = image.lowest();
                 kernel.size = image.end() - kernel.linked.raw;
                 kernel.entry = entry - kernel.linked.raw;
                 VMM_TRY_ASSIGN(place, choose_place(subject, kernel.linked, kernel.size, tail != 0));
                 return place.base;
               }};
  VMM_TRY(decompress(codec, source, sink));
  VMM_TRY(sink.finish());
  const auto& segments = sink.image().segments;
  kernel.virtual_base = std::ranges::min_element(segments, {}, &ElfImage::Segment::base)->virtual_base;
  kernel.relocations = sink.take_tail();
  phase.bytes_read = parts.payload_size;
  phase.bytes_loaded = sink.bytes();
  if (kernel.linked.raw % kPageSize == 0) kernel.pages = filled_pages(sink.image(), memory);
  return kernel;
}

// The same from the cache. Its pages are mapped; but read if the kernel is relocated, which would copy nearly
// all of them one by one: huge pages take them for less, and the guest then has a fault for 2 MiB and not for
// 4 KiB. False if they cannot be had.
bool load_cached(const Subject& subject, const KernelCache::Entry& entry, const KernelImage& image,
                 const Place& place, LoadPhase& phase) {
  bool mapped = !place.slide && subject.memory.can_map_files();
  std::vector<iovec> into;
  uint64_t from = entry.pages_at;
  for (const auto& run : image.pages) {
    const auto pages = subject.memory.slice(Gpa{place.base.raw + run.offset}, run.size);
    if (!pages) return false;  // the first one already: choose_place has seen to the others
    mapped = mapped && map_file_pages(*pages, entry.file.get(), from);
    into.push_back(pages->iov());
    from += run.size;
  }
  phase.bytes_loaded = from - entry.pages_at;
  phase.bytes_read = mapped ? 0 : phase.bytes_loaded;
  return mapped || entry.read(entry.pages_at, into);
}

// Leaves nothing of what load_cached has put there.
void clear(const Subject& subject, const KernelImage& image, Gpa base) {
  for (const auto& run : image.pages) {
    if (const auto pages = subject.memory.slice(Gpa{base.raw + run.offset}, run.size)) pages->zero();
  }
}

Result<void> relocate(const Subject& subject, const KernelImage& image, Place& place) {
  if (!place.slide) return {};
  const auto relocations = Relocations::parse(image.relocations);
  if (!relocations) {
    log(LogLevel::warning,
        "{}: what follows its vmlinux is no relocation table, its addresses are the usual ones",
        subject.file.path());
    place.slide.reset();
    return {};
  }
  const auto bytes = subject.memory.slice(place.base, image.size);
  if (!bytes)
    return fail("{}: its place at {:#x} is not in guest memory", subject.file.path(), place.base.raw);
  return *place.slide == 0
             ? Result<void>{}
             : relocations->apply(*bytes, image.virtual_base, *place.slide, subject.file.path());
}

// Loads the vmlinux inside, from the cache or by unpacking it. Says which.
Result<std::string_view> load_vmlinux(const Subject& subject, const Parts& parts, Codec codec,
                                      LinuxKernel& kernel, LoadedKernel& loaded, LoadPhase& phase) {
  const auto& [file, header, memory, options] = subject;
  std::optional<KernelCache::Entry> entry;
  if (options.cache != nullptr) entry = options.cache->find(file, parts.payload, parts.payload_size);
  Place place;
  KernelImage image;
  if (entry) {
    image = std::move(entry->image);
    VMM_TRY_ASSIGN(place, choose_place(subject, image.linked, image.size, !image.relocations.empty()));
    VMM_TRY(check_ram(options.memory_map, place.base, room_of(subject, image.size), file.path()));
    if (!load_cached(subject, *entry, image, place, phase) || !relocate(subject, image, place)) {
      log(LogLevel::warning, "{}: its entry in the kernel cache is damaged, it is unpacked again",
          file.path());
      clear(subject, image, place.base);
      entry.reset();
    }
  }
  if (!entry) {
    VMM_TRY_ASSIGN(image, unpack(subject, parts, codec, place, phase));
    VMM_TRY(check_ram(options.memory_map, place.base, room_of(subject, image.size), file.path()));
    if (options.cache != nullptr && !image.pages.empty())
      options.cache->store(file, image, memory, place.base);
    VMM_TRY(relocate(subject, image, place));
  }
  kernel.entry = place.base.raw + image.entry;
  kernel.end = place.base.raw + room_of(subject, image.size);
  kernel.kaslr = place.slide.has_value();
  loaded.slide = {.virtual_bytes = place.slide.value_or(0),
                  .physical_bytes = place.base.raw - image.linked.raw};
  return std::string_view{entry ? "from the cache" : "unpacked here"};
}

// The image as it is; its own code unpacks it.
Result<void> load_whole(const InputFile& file, const Parts& parts, const GuestMemory& memory,
                        std::span<const MemoryRange> map, LinuxKernel& kernel, LoadPhase& phase) {
  setup_header& header = kernel.params.hdr;
  uint64_t base = kOneMiB;
  if (header.relocatable_kernel != 0) {
    if (!std::has_single_bit(header.kernel_alignment)) {
      return fail("{}: a bzImage whose alignment {:#x} is not a power of two", file.path(),
                  uint32_t{header.kernel_alignment});
    }
    base = align_up(header.pref_address, header.kernel_alignment);
    if (base < kOneMiB) base = align_up(kOneMiB, header.kernel_alignment);
  }
  // A kernel that is not relocatable moves itself to pref_address, and init_size counts from there.
  const uint64_t runs_at = std::max<uint64_t>(base, header.pref_address);
  const uint64_t room = std::max<uint64_t>(parts.code_size, header.init_size);
  VMM_TRY(check_ram(map, Gpa{base}, parts.code_size, file.path()));
  VMM_TRY(check_ram(map, Gpa{runs_at}, room, file.path()));
  const auto to = memory.slice(Gpa{base}, parts.code_size);
  if (!to || base > UINT32_MAX)
    return fail("{}: its place at {:#x} is not in low guest memory", file.path(), base);
  VMM_TRY(file.read(parts.code, *to));
  header.code32_start = static_cast<uint32_t>(base);
  kernel.entry = kernel.mode == BootState::Mode::long64 ? base + k64BitEntry : base;
  kernel.end = std::max(base + parts.code_size, runs_at + room);
  phase.bytes_read = phase.bytes_loaded = parts.code_size;
  return {};
}

}  // namespace

bool is_bzimage(std::span<const std::byte> head) {
  return peek<uint16_t>(head, 0x1fe) == kBootFlag && peek<uint32_t>(head, 0x202) == kHdrS;
}

Result<LinuxKernel> load_bzimage(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                                 LoadedKernel& loaded) {
  const auto start = std::chrono::steady_clock::now();
  LoadPhase phase{.name = "kernel"};
  LinuxKernel kernel;
  VMM_TRY_ASSIGN(kernel.params, read_header(file));
  const setup_header& header = kernel.params.hdr;
  VMM_TRY_ASSIGN(const Parts parts, find_parts(file, header));
  const bool has_64bit_entry = (header.xloadflags & XLF_KERNEL_64) != 0;
  kernel.mode = has_64bit_entry ? BootState::Mode::long64 : BootState::Mode::protected32;
  std::optional<Codec> codec;
  if (has_64bit_entry) {
    VMM_TRY_ASSIGN(codec, payload_codec(file, parts));
  }
  if (codec) {
    VMM_TRY_ASSIGN(const auto origin,
                   load_vmlinux({file, header, memory, options}, parts, *codec, kernel, loaded, phase));
    loaded.description = fmt::format("bzImage, {} payload {}, 64-bit entry{}", to_string(*codec), origin,
                                     kernel.kaslr ? ", KASLR" : "");
  } else {
    VMM_TRY(load_whole(file, parts, memory, options.memory_map, kernel, phase));
    loaded.description = fmt::format("bzImage that unpacks itself, {}-bit entry", has_64bit_entry ? 64 : 32);
  }
  phase.duration = std::chrono::steady_clock::now() - start;
  loaded.phases.push_back(phase);
  return kernel;
}

}  // namespace vmm::firmware
