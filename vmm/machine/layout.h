// SPDX-License-Identifier: Apache-2.0
//
// Where everything is in the guest's address spaces. The ACPI tables say the same, from the same constants.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/types.h"

namespace vmm::layout {

// Physical memory: RAM from 0, a hole from 3 to 4 GiB for devices, the rest of RAM above.
inline constexpr uint64_t kLowRamEnd = 0xc000'0000;
inline constexpr uint64_t kHighRamBase = 0x1'0000'0000;

inline constexpr uint64_t kFirmwareTables = 0xe'0000;  // ACPI, then SMBIOS, up to 1 MiB

inline constexpr uint64_t kPciWindow = 0xc000'0000;
inline constexpr uint64_t kPciWindowSize = 0x2000'0000;
inline constexpr uint64_t kEcam = 0xe000'0000;  // one bus
inline constexpr uint64_t kEcamSize = 0x10'0000;

inline constexpr uint64_t kScratchMmio = 0xfea0'0000;  // test registers, with --debug-ports
inline constexpr uint64_t kVirtioMmio = 0xfeb0'0000;
inline constexpr uint64_t kVirtioMmioSize = 0x1000;  // each
inline constexpr uint64_t kIoApic = 0xfec0'0000;
inline constexpr uint64_t kLocalApic = 0xfee0'0000;

// Ports.
inline constexpr uint16_t kI8042 = 0x60;
inline constexpr uint16_t kCmos = 0x70;
inline constexpr uint16_t kDebugConsole = 0xe9;
inline constexpr uint16_t kDebugExit = 0xf4;
inline constexpr uint16_t kMarker = 0x3f0;
inline constexpr uint16_t kCom1 = 0x3f8;
inline constexpr uint16_t kPvpanic = 0x505;
inline constexpr uint16_t kAcpiPm = 0x600;
inline constexpr uint16_t kPciConfig = 0xcf8;
inline constexpr uint16_t kResetControl = 0xcf9;
inline constexpr uint16_t kScratchPorts = 0xe00;
inline constexpr uint16_t kPciPorts = 0xc000;  // the window for I/O BARs
inline constexpr uint16_t kPciPortsSize = 0x4000;

// Interrupts.
inline constexpr Gsi kCom1Gsi{4};
inline constexpr Gsi kSciGsi{9};
inline constexpr uint32_t kPciIntxGsi = 16;  // 16..19, by device number

// Edge-triggered inputs for virtio over MMIO, one a device: free ISA lines first, then the rest of the I/O
// APIC.
inline constexpr uint8_t kMmioGsis[] = {5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

[[nodiscard]] inline std::vector<GuestMemory::Range> ram_ranges(uint64_t memory) {
  if (memory <= kLowRamEnd) return {{Gpa{0}, memory}};
  return {{Gpa{0}, kLowRamEnd}, {Gpa{kHighRamBase}, memory - kLowRamEnd}};
}

}  // namespace vmm::layout
