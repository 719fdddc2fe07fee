// SPDX-License-Identifier: Apache-2.0
// Finding ACPI tables and reading the ones that need no AML interpreter. ACPI specification 6.5, chapter 5.
#pragma once

#include <stdint.h>

namespace payload {

struct AcpiHeader {
  char signature[4];
  uint32_t length;
  uint8_t revision;
  uint8_t checksum;
  char oem_id[6];
  char oem_table_id[8];
  uint32_t oem_revision;
  uint32_t creator_id;
  uint32_t creator_revision;
};
static_assert(sizeof(AcpiHeader) == 36);

// Address of the RSDP: `hint` if the loader gave one, else the search of 5.2.5.1 (16-byte steps through
// 0xE0000-0xFFFFF, and the first KiB of the extended BIOS data area). 0 if there is none.
uint64_t find_rsdp(uint64_t hint = 0);
// The table, its checksum verified, or null. Uses the XSDT where there is one, else the RSDT.
const AcpiHeader* find_table(uint64_t rsdp, const char* signature);

// What the MADT (5.2.12) says: processors by local APIC id, the first I/O APIC, and where ISA interrupts are
// wired.
struct Madt {
  static constexpr unsigned kMaxCpus = 64;
  unsigned cpus = 0;
  uint8_t apic_ids[kMaxCpus] = {};
  uint64_t io_apic = 0;
  uint32_t io_apic_gsi_base = 0;
  struct Isa {
    uint32_t gsi;
    uint16_t flags;  // polarity and trigger as in table 5.26; 0: as the bus says (ISA: high, edge)
  } isa[16] = {};
};
Madt read_madt(uint64_t rsdp);

// What the FADT (5.2.9) says about power and time.
struct Fadt {
  uint16_t sci = 0;  // the interrupt of the PM1 events
  uint32_t pm1a_event = 0;
  uint8_t pm1_event_length = 0;  // status, then enable, half of it each
  uint32_t pm1a_control = 0;
  uint32_t pm_timer = 0;
  uint32_t flags = 0;
  uint8_t reset_space = 0;  // 1: I/O port
  uint64_t reset_address = 0;
  uint8_t reset_value = 0;
  uint64_t dsdt = 0;
};
constexpr uint32_t kFadtResetSupported = 1u << 10;
Fadt read_fadt(uint64_t rsdp);

// SLP_TYPa of \_S5, read out of the DSDT: NameOp "_S5_" PackageOp … is found by its bytes (20.2.5.1), which
// is what every program without an AML interpreter does. -1 if there is none.
int read_s5_type(const Fadt& fadt);

// Base of the PCI Express memory-mapped configuration space of segment 0 (MCFG; PCI Firmware
// Specification 3.3, 4.1.2), or 0.
uint64_t read_ecam_base(uint64_t rsdp);

}  // namespace payload
