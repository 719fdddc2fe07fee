// SPDX-License-Identifier: Apache-2.0
//
// Kernels built byte by byte, so that each test can break the one byte it is about.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "firmware/decompress.h"
#include "firmware/loader.h"
#include "vmm/core/guest_memory.h"

namespace vmm::firmware::test {

using Bytes = std::vector<std::byte>;

// A file that goes with the object.
class TempFile {
 public:
  explicit TempFile(std::span<const std::byte> bytes);
  ~TempFile() { ::unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

template <typename T>
void poke(Bytes& bytes, size_t offset, T value) {
  if (bytes.size() < offset + sizeof(T)) bytes.resize(offset + sizeof(T));
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}
void append(Bytes& to, std::span<const std::byte> from);
[[nodiscard]] Bytes from_text(std::string_view text);
// Bytes that do not repeat soon, and compress a little.
[[nodiscard]] Bytes pattern(size_t size, uint32_t seed = 1);

[[nodiscard]] GuestMemory make_memory(uint64_t mib);

struct TestSegment {
  uint64_t physical = 0;
  Bytes data = {};
  uint64_t memory_size = 0;   // 0: as many as data
  uint64_t virtual_base = 0;  // 0: as physical
};
struct TestElf {
  bool is64 = true;
  uint16_t machine = 62;  // EM_X86_64
  uint64_t entry = 0x1000000;
  std::vector<TestSegment> segments = {};
  Bytes notes = {};
};
// Program headers follow the ELF header; the notes come after them, each segment at a multiple of 4 KiB.
[[nodiscard]] Bytes make_elf(const TestElf& elf);
[[nodiscard]] Bytes make_note(std::string_view owner, uint32_t type, std::span<const std::byte> value);
// Where the fields of program header `index` are.
[[nodiscard]] constexpr size_t program_header64(size_t index) {
  return 64 + index * 56;
}

// A vmlinux with two segments and bss, and something behind them as the relocations are.
[[nodiscard]] TestElf small_vmlinux();

[[nodiscard]] Bytes compress(Codec codec, std::span<const std::byte> bytes);
// As the kernel's build wraps it: with the unpacked size at the end.
[[nodiscard]] Bytes kernel_payload(Codec codec, std::span<const std::byte> vmlinux);

// Field offsets of the setup header (boot.rst, "The Real-Mode Kernel Header").
namespace at {
inline constexpr size_t setup_sects = 0x1f1, syssize = 0x1f4, boot_flag = 0x1fe, jump = 0x200, header = 0x202,
                        version = 0x206, loadflags = 0x211, initrd_addr_max = 0x22c, kernel_alignment = 0x230,
                        relocatable = 0x234, xloadflags = 0x236, cmdline_size = 0x238, payload_offset = 0x248,
                        payload_length = 0x24c, pref_address = 0x258, init_size = 0x260;
}  // namespace at
[[nodiscard]] Bytes make_bzimage(std::span<const std::byte> payload, uint8_t setup_sects = 3);

// Loads `image` with `options` into `memory`, the map made from it if there is none.
Result<LoadedKernel> load(const Bytes& image, const GuestMemory& memory, LoadOptions options = {});

}  // namespace vmm::firmware::test
