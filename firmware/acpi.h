// SPDX-License-Identifier: Apache-2.0
//
// ACPI: the tables by which the guest learns what the machine has (ACPI 6.5, chapter 5). What is fixed is
// written in ASL, one small table for each part that may be absent; what depends on numbers is emitted here.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::firmware {

// Where the tables go: RAM that the memory map calls reserved. SMBIOS follows at kSmbiosBase.
inline constexpr Gpa kAcpiBase{0xe0000};
inline constexpr uint64_t kAcpiSpace = 0x10000;  // bytes

struct AcpiConfig {
  uint32_t cpus = 1;  // processors; the APIC id of each is its index
  Gpa local_apic{0xfee00000};
  Gpa io_apic{0xfec00000};  // its inputs are GSI 0..23
  Port pm{0x600};           // legacy::AcpiPm
  Gsi sci{9};               // level-triggered, active high

  // The bus of asl/pci.asl. Its window for BARs and the wires of its slots are in that file.
  std::optional<Gpa> ecam;

  // A virtio device over MMIO: 4 KiB of registers and an edge-triggered interrupt.
  struct VirtioMmio {
    Gpa base;
    Gsi gsi;
  };
  std::vector<VirtioMmio> virtio_mmio;

  bool com1 = true;       // legacy::SerialPort at 0x3F8, IRQ 4
  bool pvpanic = true;    // legacy::Pvpanic at 0x505
  bool cmos_rtc = false;  // legacy::CmosRtc at 0x70
  bool i8042 = false;     // a keyboard controller; not legacy::I8042, which is a reset line only
  bool pm_timer = false;  // the timer of legacy::AcpiPm
};

// Writes all tables. The address of the root pointer (RSDP) comes back: for boot_params, and found by a
// search of the BIOS area too.
Result<Gpa> write_acpi(const GuestMemory& memory, const AcpiConfig& config);

}  // namespace vmm::firmware
