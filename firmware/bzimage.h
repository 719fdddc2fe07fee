// SPDX-License-Identifier: Apache-2.0
//
// Linux's bzImage (Documentation/arch/x86/boot.rst): boot sector, real-mode setup, then protected-mode code
// that holds the compressed vmlinux. The vmlinux is decompressed here and entered directly, because the guest
// would do it more slowly and into memory that it then keeps dirty. Where it cannot be found (an unknown
// compression, a kernel that hides it) or is not 64-bit, the protected-mode code is loaded whole and unpacks
// itself.
//
// Boot protocol 2.12 (Linux 3.8) or later. Ignored: the signature that may follow the image, the relocations
// that follow the vmlinux (they serve to move it, which is not done), the CRC at the end.
#pragma once

#include "firmware/linux_boot.h"

namespace vmm::firmware {

[[nodiscard]] bool is_bzimage(std::span<const std::byte> head);

// Loads it, and describes it in loaded.description and loaded.phases.
Result<LinuxKernel> load_bzimage(const InputFile& file, const GuestMemory& memory,
                                 std::span<const MemoryRange> map, LoadedKernel& loaded);

}  // namespace vmm::firmware
