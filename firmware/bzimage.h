// SPDX-License-Identifier: Apache-2.0
//
// Linux's bzImage (Documentation/arch/x86/boot.rst): boot sector, real-mode setup, then protected-mode code
// that holds the compressed vmlinux. The vmlinux is decompressed here and entered directly, because the guest
// would do it more slowly and into memory that it then keeps dirty. Where it cannot be found (an unknown
// compression, a kernel that hides it) or is not 64-bit, the protected-mode code is loaded whole and unpacks
// itself.
//
// A kernel that is unpacked here would lose the random addresses that it gives itself when it unpacks itself:
// so it is moved by the relocations that follow the vmlinux (kaslr.h, relocations.h). What was unpacked is
// kept for the next start (kernel_cache.h).
//
// Boot protocol 2.12 (Linux 3.8) or later. Ignored: the signature that may follow the image, the CRC at the
// end.
#pragma once

#include "firmware/linux_boot.h"

namespace vmm::firmware {

[[nodiscard]] bool is_bzimage(std::span<const std::byte> head);

// Loads it, and describes it in loaded.description, loaded.slide and loaded.phases.
Result<LinuxKernel> load_bzimage(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                                 LoadedKernel& loaded);

}  // namespace vmm::firmware
