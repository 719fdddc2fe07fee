// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/config_memory.h"

#include <sys/mman.h>

#include <cassert>
#include <cerrno>

#include "devices/pci/config_space.h"

namespace vmm::pci {

Result<ConfigMemory> ConfigMemory::create(Gpa base) {
  constexpr size_t kSize = size_t{kDevices} * ConfigSpace::kSize;
  void* memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(errno, "allocate the pages of PCI configuration");
  return ConfigMemory{base, Mapping{static_cast<std::byte*>(memory), kSize}};
}

ReadablePages::Place ConfigMemory::page(uint8_t device) const {
  assert(device < kDevices);
  constexpr uint64_t kStride = 1U << 15;  // eight functions
  return {.base = Gpa{base_.raw + device * kStride},
          .pages = memory_.bytes().subspan(size_t{device} * ConfigSpace::kSize, ConfigSpace::kSize)};
}

}  // namespace vmm::pci
