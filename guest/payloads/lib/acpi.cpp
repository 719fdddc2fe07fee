// SPDX-License-Identifier: Apache-2.0
#include "acpi.h"

#include "console.h"
#include "io.h"

namespace payload {
namespace {

template <class T>
T peek(uint64_t address) {
  T value;
  __builtin_memcpy(&value, reinterpret_cast<const void*>(address), sizeof(value));
  return value;
}

bool same(const void* at, const char* text, unsigned size) {
  return __builtin_memcmp(at, text, size) == 0;
}

bool sums_to_zero(uint64_t address, uint32_t size) {
  uint8_t sum = 0;
  for (uint32_t i = 0; i < size; ++i) sum = static_cast<uint8_t>(sum + peek<uint8_t>(address + i));
  return sum == 0;
}

bool is_rsdp(uint64_t address) {
  // One comparison first: on a slow processor the search is most of what a payload executes.
  return peek<uint64_t>(address) == 0x2052545020445352 /* "RSD PTR " */ && sums_to_zero(address, 20);
}

}  // namespace

uint64_t find_rsdp(uint64_t hint) {
  if (hint != 0) return is_rsdp(hint) ? hint : 0;
  for (uint64_t at = 0xE0000; at < 0x100000; at += 16) {
    if (is_rsdp(at)) return at;
  }
  const uint64_t ebda = uint64_t{peek<uint16_t>(0x40E)} << 4;
  for (uint64_t at = ebda; ebda != 0 && at < ebda + 1024; at += 16) {
    if (is_rsdp(at)) return at;
  }
  return 0;
}

const AcpiHeader* find_table(uint64_t rsdp, const char* signature) {
  const bool extended = peek<uint8_t>(rsdp + 15) >= 2;
  const uint64_t root = extended ? peek<uint64_t>(rsdp + 24) : peek<uint32_t>(rsdp + 16);
  const uint32_t entry_size = extended ? 8 : 4;
  const uint32_t length = peek<uint32_t>(root + 4);
  for (uint32_t at = sizeof(AcpiHeader); at + entry_size <= length; at += entry_size) {
    const uint64_t table = extended ? peek<uint64_t>(root + at) : peek<uint32_t>(root + at);
    if (!same(reinterpret_cast<const void*>(table), signature, 4)) continue;
    check(sums_to_zero(table, peek<uint32_t>(table + 4)), "checksum of an ACPI table");
    return reinterpret_cast<const AcpiHeader*>(table);
  }
  return nullptr;
}

Madt read_madt(uint64_t rsdp) {
  Madt madt;
  for (uint32_t i = 0; i < 16; ++i) madt.isa[i] = {i, 0};
  const AcpiHeader* table = find_table(rsdp, "APIC");
  check(table != nullptr, "ACPI MADT present");
  const auto start = reinterpret_cast<uint64_t>(table);
  for (uint64_t at = start + 44; at < start + table->length;) {
    const auto type = peek<uint8_t>(at);
    const auto size = peek<uint8_t>(at + 1);
    check(size >= 2, "length of a MADT entry");
    if (type == 0 && (peek<uint32_t>(at + 4) & 1) != 0 &&
        madt.cpus < Madt::kMaxCpus) {  // local APIC, enabled
      madt.apic_ids[madt.cpus++] = peek<uint8_t>(at + 3);
    } else if (type == 1 && madt.io_apic == 0) {  // I/O APIC
      madt.io_apic = peek<uint32_t>(at + 4);
      madt.io_apic_gsi_base = peek<uint32_t>(at + 8);
    } else if (type == 2 && peek<uint8_t>(at + 3) < 16) {  // interrupt source override
      madt.isa[peek<uint8_t>(at + 3)] = {peek<uint32_t>(at + 4), peek<uint16_t>(at + 8)};
    }
    at += size;
  }
  return madt;
}

Fadt read_fadt(uint64_t rsdp) {
  Fadt fadt;
  const AcpiHeader* table = find_table(rsdp, "FACP");
  check(table != nullptr, "ACPI FADT present");
  const auto at = reinterpret_cast<uint64_t>(table);
  fadt.dsdt = peek<uint32_t>(at + 40);
  fadt.sci = peek<uint16_t>(at + 46);
  fadt.pm1a_event = peek<uint32_t>(at + 56);
  fadt.pm1a_control = peek<uint32_t>(at + 64);
  fadt.pm_timer = peek<uint32_t>(at + 76);
  fadt.pm1_event_length = peek<uint8_t>(at + 88);
  fadt.flags = peek<uint32_t>(at + 112);
  if (table->length >= 129) {
    fadt.reset_space = peek<uint8_t>(at + 116);
    fadt.reset_address = peek<uint64_t>(at + 120);
    fadt.reset_value = peek<uint8_t>(at + 128);
  }
  // The 64-bit fields win where they are there and not zero (5.2.9). Generic addresses: space, width, offset,
  // access, address.
  if (table->length >= 148 && peek<uint64_t>(at + 140) != 0) fadt.dsdt = peek<uint64_t>(at + 140);
  if (table->length >= 184 && fadt.pm1a_control == 0)
    fadt.pm1a_control = static_cast<uint32_t>(peek<uint64_t>(at + 176));
  if (table->length >= 220 && fadt.pm_timer == 0)
    fadt.pm_timer = static_cast<uint32_t>(peek<uint64_t>(at + 212));
  return fadt;
}

int read_s5_type(const Fadt& fadt) {
  if (fadt.dsdt == 0) return -1;
  const uint32_t length = peek<uint32_t>(fadt.dsdt + 4);
  for (uint32_t i = sizeof(AcpiHeader); i + 8 < length; ++i) {
    const uint64_t at = fadt.dsdt + i;
    if (peek<uint32_t>(at) != 0x5F35535F /* "_S5_" */ || peek<uint8_t>(at + 4) != 0x12 /* PackageOp */)
      continue;
    // PkgLength: its two top bits say how many bytes follow the first (20.2.4). Then comes the number of
    // elements.
    uint64_t element = at + 5 + (peek<uint8_t>(at + 5) >> 6) + 2;
    const auto op = peek<uint8_t>(element);
    if (op == 0x00 || op == 0x01) return op;                  // ZeroOp, OneOp
    if (op == 0x0A) return peek<uint8_t>(element + 1) & 0x7;  // BytePrefix
    return -1;
  }
  return -1;
}

uint64_t read_ecam_base(uint64_t rsdp) {
  const AcpiHeader* table = find_table(rsdp, "MCFG");
  return table == nullptr ? 0 : peek<uint64_t>(reinterpret_cast<uint64_t>(table) + 44);
}

}  // namespace payload
