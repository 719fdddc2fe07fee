// SPDX-License-Identifier: Apache-2.0
//
// A kernel's file and what it is. The kind is told by the content, never by the name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "firmware/input_file.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

enum class KernelKind : uint8_t {
  bzimage,      // Linux with its setup header (Documentation/arch/x86/boot.rst)
  elf_linux,    // ELF64 that carries Linux's own notes: vmlinux
  elf_pvh,      // ELF with XEN_ELFNOTE_PHYS32_ENTRY
  elf64,        // any other ELF64 for x86-64: entered as Linux is
  multiboot,    // Multiboot 1 header in the first 8 KiB
  boot_sector,  // at most 64 KiB that end their first sector as a PC's boot sector does
  unknown,      // runs as a flat binary, if the user says where
};

// As the user reads it: "bzImage", "ELF64 vmlinux", …
[[nodiscard]] std::string_view to_string(KernelKind kind);

class KernelFile {
 public:
  // A file of an unknown or foreign kind is not an error yet: see foreign().
  static Result<KernelFile> open(const std::string& path);

  [[nodiscard]] KernelKind kind() const { return kind_; }
  [[nodiscard]] const std::string& path() const { return file_.path(); }
  [[nodiscard]] const InputFile& file() const { return file_; }
  // If the kind is unknown: what it is instead (an arm64 Image, a disk image, …), and what to do. Else empty.
  [[nodiscard]] const std::string& foreign() const { return foreign_; }

 private:
  KernelFile(InputFile file, KernelKind kind, std::string foreign)
      : file_(std::move(file)), kind_(kind), foreign_(std::move(foreign)) {}
  InputFile file_;
  KernelKind kind_;
  std::string foreign_;
};

}  // namespace vmm::firmware
