// SPDX-License-Identifier: Apache-2.0
//
// Names for the addresses at which a guest is found: from the .symtab of an ELF file (vmlinux, a teaching
// kernel), or from lines as in System.map and /proc/kallsyms. Only functions are kept. Missing: modules,
// DWARF.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.h"

namespace vmm::firmware {

// How far a kernel is from where it is linked, in bytes; both wrap.
struct KernelSlide {
  uint64_t virtual_bytes = 0;
  uint64_t physical_bytes = 0;
};

class SymbolTable {
 public:
  // Bounded whatever the file says: at most 4 million symbols, 256 MiB.
  static Result<SymbolTable> load(const std::string& path);

  // "do_idle+0x1c": the function at or before `address`, at most 1 MiB before it. The kernel runs `slide`
  // from where the table has it. An address below 4 GiB that has no name of its own is tried as Linux's
  // physical one, because that is where Linux runs before it has page tables.
  [[nodiscard]] std::optional<std::string> name(uint64_t address, const KernelSlide& slide = {}) const;

  [[nodiscard]] size_t size() const { return symbols_.size(); }

  // Used while loading; names that are not printable are dropped.
  void add(uint64_t address, std::string_view name);

 private:
  struct Symbol {
    uint64_t address;
    uint32_t name;  // offset in names_, where it ends with a zero
  };
  void sort();
  [[nodiscard]] std::optional<std::string> find(uint64_t address) const;

  std::vector<Symbol> symbols_;  // by address, one for each
  std::string names_;
};

}  // namespace vmm::firmware
