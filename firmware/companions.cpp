// SPDX-License-Identifier: Apache-2.0
#include "firmware/companions.h"

#include <algorithm>

#include "firmware/boot_layout.h"
#include "firmware/input_file.h"
#include "firmware/wire.h"

namespace vmm::firmware {

Result<void> write_command_line(const GuestMemory& memory, const std::string& text, uint64_t most,
                                const std::string& kernel) {
  const uint64_t limit = std::min(most, kCommandLineSize - 1);
  if (text.size() > limit) {
    return fail("{}: the command line has {} characters, the kernel takes at most {}", kernel, text.size(),
                limit);
  }
  if (text.find('\0') != std::string::npos) {
    return fail("{}: the command line holds a zero byte, where the kernel would stop reading", kernel);
  }
  const auto bytes = std::as_bytes(std::span{text.c_str(), text.size() + 1});
  if (!memory.write(kCommandLine, bytes)) return fail("{}: no RAM for the command line", kernel);
  return {};
}

namespace {

Result<Gpa> place_initrd(const InputFile& file, std::span<const MemoryRange> map, Gpa lowest, Gpa end) {
  if (const auto base = highest_fit(map, file.size(), lowest, end)) return *base;
  return fail(
      "initrd {}: its {} MiB do not fit into RAM between {:#x}, where the kernel ends, and {:#x}: use a "
      "larger "
      "--memory or a smaller initrd",
      file.path(), mib_up(file.size()), lowest.raw, end.raw);
}

}  // namespace

Result<Gpa> initrd_floor(const LoadOptions& options, Gpa lowest, Gpa end) {
  if (options.initrd.empty()) return end;
  VMM_TRY_ASSIGN(const InputFile file, InputFile::open(options.initrd, "initrd"));
  return place_initrd(file, options.memory_map, lowest, end);
}

Result<std::optional<Initrd>> load_initrd(const GuestMemory& memory, const LoadOptions& options, Gpa lowest,
                                          Gpa end, LoadedKernel& loaded) {
  if (options.initrd.empty()) return std::nullopt;
  const auto start = std::chrono::steady_clock::now();
  VMM_TRY_ASSIGN(const InputFile file, InputFile::open(options.initrd, "initrd"));
  const uint64_t size = file.size();
  VMM_TRY_ASSIGN(const Gpa base, place_initrd(file, options.memory_map, lowest, end));
  const auto to = memory.slice(base, size);
  if (!to) return fail("initrd {}: its place at {:#x} is not in guest memory", file.path(), base.raw);
  VMM_TRY(file.read(0, *to));
  loaded.phases.push_back({"initrd", std::chrono::steady_clock::now() - start, size, size});
  return Initrd{base, size};
}

}  // namespace vmm::firmware
