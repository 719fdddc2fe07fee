// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/firmware/images.h"

#include <bzlib.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>

namespace vmm::firmware::test {
namespace {

void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "the test cannot build its input: %s\n", what);
  ::abort();
}

template <typename Header, typename ProgramHeader>
Bytes make_elf_of(const TestElf& elf, uint8_t elf_class) {
  const size_t headers = elf.segments.size() + (elf.notes.empty() ? 0 : 1);
  Header header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = elf_class;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = elf.machine;
  header.e_entry = static_cast<decltype(header.e_entry)>(elf.entry);
  header.e_phoff = sizeof(Header);
  header.e_phentsize = sizeof(ProgramHeader);
  header.e_phnum = static_cast<uint16_t>(headers);
  Bytes file;
  poke(file, 0, header);
  const size_t notes_at = sizeof(Header) + headers * sizeof(ProgramHeader);
  file.resize(notes_at);
  append(file, elf.notes);
  for (size_t i = 0; i < elf.segments.size(); ++i) {
    const auto& segment = elf.segments[i];
    file.resize((file.size() + 4095) / 4096 * 4096);
    ProgramHeader entry{};
    using Word = decltype(entry.p_paddr);
    entry.p_type = PT_LOAD;
    entry.p_offset = static_cast<Word>(file.size());
    entry.p_paddr = static_cast<Word>(segment.physical);
    entry.p_vaddr = static_cast<Word>(segment.virtual_base != 0 ? segment.virtual_base : segment.physical);
    entry.p_filesz = static_cast<Word>(segment.data.size());
    entry.p_memsz = static_cast<Word>(segment.memory_size != 0 ? segment.memory_size : segment.data.size());
    poke(file, sizeof(Header) + i * sizeof(ProgramHeader), entry);
    append(file, segment.data);
  }
  if (!elf.notes.empty()) {
    ProgramHeader entry{};
    entry.p_type = PT_NOTE;
    entry.p_offset = static_cast<decltype(entry.p_offset)>(notes_at);
    entry.p_filesz = static_cast<decltype(entry.p_filesz)>(elf.notes.size());
    poke(file, sizeof(Header) + elf.segments.size() * sizeof(ProgramHeader), entry);
  }
  return file;
}

Bytes compress_gzip(std::span<const std::byte> bytes) {
  z_stream stream{};
  require(::deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK, "gzip");
  Bytes out(::deflateBound(&stream, bytes.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<unsigned>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<unsigned>(out.size());
  require(::deflate(&stream, Z_FINISH) == Z_STREAM_END, "gzip");
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

Bytes compress_lzma(std::span<const std::byte> bytes, bool alone) {
  lzma_options_lzma options{};
  ::lzma_lzma_preset(&options, 6);
  // As the kernel's scripts/xz_wrap.sh has it: the x86 branch filter before LZMA2.
  const lzma_filter filters[] = {
      {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  lzma_stream stream = LZMA_STREAM_INIT;
  require((alone ? ::lzma_alone_encoder(&stream, &options)
                 : ::lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC32)) == LZMA_OK,
          "xz");
  Bytes out(bytes.size() + bytes.size() / 2 + 65536);
  stream.next_in = reinterpret_cast<const uint8_t*>(bytes.data());
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<uint8_t*>(out.data());
  stream.avail_out = out.size();
  require(::lzma_code(&stream, LZMA_FINISH) == LZMA_STREAM_END, "xz");
  out.resize(out.size() - stream.avail_out);
  ::lzma_end(&stream);
  return out;
}

Bytes compress_lz4(std::span<const std::byte> bytes) {
  Bytes out = from_text("\x02\x21\x4c\x18");
  while (!bytes.empty()) {
    const auto block = bytes.first(std::min<size_t>(bytes.size(), 8 << 20));
    bytes = bytes.subspan(block.size());
    Bytes packed(static_cast<size_t>(::LZ4_compressBound(static_cast<int>(block.size()))));
    const int size = ::LZ4_compress_default(reinterpret_cast<const char*>(block.data()),
                                            reinterpret_cast<char*>(packed.data()),
                                            static_cast<int>(block.size()), static_cast<int>(packed.size()));
    require(size > 0, "lz4");
    packed.resize(static_cast<size_t>(size));
    poke(out, out.size(), static_cast<uint32_t>(size));
    append(out, packed);
  }
  return out;
}

}  // namespace

TempFile::TempFile(std::span<const std::byte> bytes) {
  const char* directory = ::getenv("TMPDIR");
  path_ = std::string{directory != nullptr ? directory : "/tmp"} + "/vmm-test-XXXXXX";
  const int fd = ::mkstemp(path_.data());
  require(fd >= 0, "temporary file");
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    require(put > 0, "temporary file");
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  ::close(fd);
}

void append(Bytes& to, std::span<const std::byte> from) {
  to.insert(to.end(), from.begin(), from.end());
}

Bytes from_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

Bytes pattern(size_t size, uint32_t seed) {
  Bytes bytes(size);
  uint32_t state = seed * 2654435761U + 1;
  for (size_t i = 0; i < size; ++i) {
    if (i % 3 == 0) state = state * 1664525U + 1013904223U;
    bytes[i] = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

GuestMemory make_memory(uint64_t mib) {
  const GuestMemory::Range range{Gpa{0}, mib << 20};
  auto memory = GuestMemory::create(std::span{&range, 1});
  require(memory.has_value(), "guest memory");
  return std::move(*memory);
}

Bytes make_elf(const TestElf& elf) {
  return elf.is64 ? make_elf_of<Elf64_Ehdr, Elf64_Phdr>(elf, ELFCLASS64)
                  : make_elf_of<Elf32_Ehdr, Elf32_Phdr>(elf, ELFCLASS32);
}

Bytes make_note(std::string_view owner, uint32_t type, std::span<const std::byte> value) {
  Bytes note;
  poke(note, 0, static_cast<uint32_t>(owner.size() + 1));
  poke(note, 4, static_cast<uint32_t>(value.size()));
  poke(note, 8, type);
  append(note, from_text(owner));
  note.resize((note.size() + 1 + 3) / 4 * 4);
  append(note, value);
  note.resize((note.size() + 3) / 4 * 4);
  return note;
}

TestElf small_vmlinux() {
  TestElf elf;
  elf.segments.push_back({.physical = 0x1000000,
                          .data = pattern(100'000, 7),
                          .memory_size = 0,
                          .virtual_base = 0xffffffff81000000});
  elf.segments.push_back(
      {.physical = 0x1100000, .data = pattern(5000, 8), .memory_size = 100'000, .virtual_base = 0});
  return elf;
}

Bytes compress(Codec codec, std::span<const std::byte> bytes) {
  switch (codec) {
    case Codec::gzip:
      return compress_gzip(bytes);
    case Codec::xz:
      return compress_lzma(bytes, false);
    case Codec::lzma:
      return compress_lzma(bytes, true);
    case Codec::lz4:
      return compress_lz4(bytes);
    case Codec::zstd: {
      Bytes out(::ZSTD_compressBound(bytes.size()));
      out.resize(::ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
      return out;
    }
    case Codec::bzip2: {
      auto size = static_cast<unsigned>(bytes.size() + bytes.size() / 50 + 1024);
      Bytes out(size);
      require(::BZ2_bzBuffToBuffCompress(reinterpret_cast<char*>(out.data()), &size,
                                         reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())),
                                         static_cast<unsigned>(bytes.size()), 9, 0, 0) == BZ_OK,
              "bzip2");
      out.resize(size);
      return out;
    }
    case Codec::lzo:
      return from_text("\x89LZO, as far as anybody looks");
  }
  return {};
}

Bytes kernel_payload(Codec codec, std::span<const std::byte> vmlinux) {
  Bytes payload = compress(codec, vmlinux);
  if (codec != Codec::gzip) poke(payload, payload.size(), static_cast<uint32_t>(vmlinux.size()));
  return payload;
}

Bytes make_bzimage(std::span<const std::byte> payload, uint8_t setup_sects) {
  constexpr size_t kPayloadOffset = 0x2cc;
  const size_t code_at = (size_t{setup_sects == 0 ? uint8_t{4} : setup_sects} + 1) * 512;
  Bytes image = pattern(code_at + kPayloadOffset, 99);
  append(image, payload);
  image.resize(code_at + (image.size() - code_at + 15) / 16 * 16);
  std::fill_n(image.begin() + 0x1f1, 0x290 - 0x1f1, std::byte{0});
  poke(image, 0, uint16_t{0x5a4d});  // "MZ": most kernels are EFI programs, too
  poke(image, at::setup_sects, setup_sects);
  poke(image, at::syssize, static_cast<uint32_t>((image.size() - code_at) / 16));
  poke(image, at::boot_flag, uint16_t{0xaa55});
  poke(image, at::jump, uint16_t{0x6aeb});
  poke(image, at::header, uint32_t{0x53726448});
  poke(image, at::version, uint16_t{0x020f});
  poke(image, at::loadflags, uint8_t{1});
  poke(image, at::initrd_addr_max, uint32_t{0x7fffffff});
  poke(image, at::kernel_alignment, uint32_t{0x200000});
  poke(image, at::relocatable, uint8_t{1});
  poke(image, at::xloadflags, uint16_t{0x7f});
  poke(image, at::cmdline_size, uint32_t{2047});
  poke(image, at::payload_offset, static_cast<uint32_t>(kPayloadOffset));
  poke(image, at::payload_length, static_cast<uint32_t>(payload.size()));
  poke(image, at::pref_address, uint64_t{0x1000000});
  poke(image, at::init_size, uint32_t{0x800000});
  return image;
}

Result<LoadedKernel> load(const Bytes& image, const GuestMemory& memory, LoadOptions options) {
  const TempFile file{image};
  if (options.memory_map.empty()) options.memory_map = make_memory_map(memory, {});
  VMM_TRY_ASSIGN(const KernelFile kernel, KernelFile::open(file.path()));
  return load_kernel(kernel, memory, options);
}

}  // namespace vmm::firmware::test
