// SPDX-License-Identifier: Apache-2.0
//
// PVH, the "x86/HVM direct boot ABI" of Xen (docs/misc/pvh.pandoc,
// xen/include/public/arch-x86/hvm/start_info.h): an ELF file whose note says at which physical address it
// wants to be entered, in 32-bit protected mode with EBX pointing to a description of the machine. One
// module: the initrd.
#pragma once

#include "firmware/input_file.h"
#include "firmware/loader.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

// Loads the file and sets `loaded`.
Result<void> load_pvh(const InputFile& file, const GuestMemory& memory, const LoadOptions& options,
                      LoadedKernel& loaded);

}  // namespace vmm::firmware
