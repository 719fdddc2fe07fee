// SPDX-License-Identifier: Apache-2.0
//
// The fixed layouts of ACPI tables (ACPI 6.5, 5.2). Little-endian, packed, every field at the offset that the
// specification gives.
#pragma once

#include <array>
#include <cstdint>

namespace vmm::firmware {

using Signature = std::array<char, 4>;

struct [[gnu::packed]] AcpiHeader {  // 5.2.6
  Signature signature{};
  uint32_t length = 0;  // of the whole table, in bytes
  uint8_t revision = 0;
  uint8_t checksum = 0;  // makes the sum of all bytes zero
  std::array<char, 6> oem_id = {'V', 'M', 'M'};
  std::array<char, 8> oem_table_id = {'M', 'A', 'C', 'H', 'I', 'N', 'E'};
  uint32_t oem_revision = 1;
  std::array<char, 4> creator_id = {'V', 'M', 'M', ' '};
  uint32_t creator_revision = 1;
};
static_assert(sizeof(AcpiHeader) == 36);

struct [[gnu::packed]] AcpiRsdp {  // 5.2.5.3
  std::array<char, 8> signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint8_t checksum = 0;  // of the first 20 bytes
  std::array<char, 6> oem_id = {'V', 'M', 'M'};
  uint8_t revision = 2;
  uint32_t rsdt_address = 0;
  uint32_t length = 36;
  uint64_t xsdt_address = 0;
  uint8_t extended_checksum = 0;  // of all
  std::array<uint8_t, 3> reserved{};
};
static_assert(sizeof(AcpiRsdp) == 36);

struct [[gnu::packed]] AcpiAddress {  // 5.2.3.2, "generic address structure"
  enum class Space : uint8_t { memory = 0, port = 1 };
  enum class Access : uint8_t { undefined = 0, byte = 1, word = 2, dword = 3 };
  Space space = Space::memory;
  uint8_t bit_width = 0;
  uint8_t bit_offset = 0;
  Access access = Access::undefined;
  uint64_t address = 0;
};
static_assert(sizeof(AcpiAddress) == 12);

struct [[gnu::packed]] AcpiFadt {  // 5.2.9
  AcpiHeader header{.signature = {'F', 'A', 'C', 'P'}, .revision = 6};
  uint32_t firmware_control = 0;
  uint32_t dsdt = 0;
  uint8_t reserved0 = 0;
  uint8_t preferred_profile = 0;  // unspecified
  uint16_t sci_interrupt = 0;
  uint32_t smi_command = 0;  // none: ACPI mode is always on
  uint8_t acpi_enable = 0;
  uint8_t acpi_disable = 0;
  uint8_t s4bios_request = 0;
  uint8_t pstate_control = 0;
  uint32_t pm1a_event_block = 0;
  uint32_t pm1b_event_block = 0;
  uint32_t pm1a_control_block = 0;
  uint32_t pm1b_control_block = 0;
  uint32_t pm2_control_block = 0;
  uint32_t pm_timer_block = 0;
  uint32_t gpe0_block = 0;
  uint32_t gpe1_block = 0;
  uint8_t pm1_event_length = 0;
  uint8_t pm1_control_length = 0;
  uint8_t pm2_control_length = 0;
  uint8_t pm_timer_length = 0;
  uint8_t gpe0_block_length = 0;
  uint8_t gpe1_block_length = 0;
  uint8_t gpe1_base = 0;
  uint8_t cstate_control = 0;
  uint16_t c2_latency = 0xffff;  // above 100 and above 1000: there is no C2, no C3
  uint16_t c3_latency = 0xffff;
  uint16_t flush_size = 0;
  uint16_t flush_stride = 0;
  uint8_t duty_offset = 0;
  uint8_t duty_width = 0;
  uint8_t day_alarm = 0;
  uint8_t month_alarm = 0;
  uint8_t century = 0;
  uint16_t boot_architecture = 0;
  uint8_t reserved1 = 0;
  uint32_t flags = 0;
  AcpiAddress reset_register{};
  uint8_t reset_value = 0;
  uint16_t arm_boot_architecture = 0;
  uint8_t minor_version = 5;
  uint64_t x_firmware_control = 0;
  uint64_t x_dsdt = 0;
  AcpiAddress x_pm1a_event_block{};
  AcpiAddress x_pm1b_event_block{};
  AcpiAddress x_pm1a_control_block{};
  AcpiAddress x_pm1b_control_block{};
  AcpiAddress x_pm2_control_block{};
  AcpiAddress x_pm_timer_block{};
  AcpiAddress x_gpe0_block{};
  AcpiAddress x_gpe1_block{};
  AcpiAddress sleep_control{};
  AcpiAddress sleep_status{};
  std::array<char, 8> hypervisor_vendor = {'V', 'M', 'M'};
};
static_assert(sizeof(AcpiFadt) == 276);

namespace fadt {

inline constexpr uint16_t kLegacyDevices = 1U << 0;  // boot_architecture, 5.2.9.3
inline constexpr uint16_t k8042 = 1U << 1;
inline constexpr uint16_t kVgaNotPresent = 1U << 2;
inline constexpr uint16_t kCmosRtcNotPresent = 1U << 5;

inline constexpr uint32_t kWbinvd = 1U << 0;  // flags, table 5.10
inline constexpr uint32_t kC1 = 1U << 2;
inline constexpr uint32_t kNoSleepButton = 1U << 5;  // as fixed hardware. The power button (bit 4, clear) is.
inline constexpr uint32_t kNoFixedRtcWake = 1U << 6;
inline constexpr uint32_t kTimer32Bits = 1U << 8;
inline constexpr uint32_t kResetRegister = 1U << 10;

}  // namespace fadt

struct [[gnu::packed]] AcpiFacs {  // 5.2.10; at a multiple of 64
  Signature signature = {'F', 'A', 'C', 'S'};
  uint32_t length = 64;
  uint32_t hardware_signature = 0;
  uint32_t waking_vector = 0;
  uint32_t global_lock = 0;
  uint32_t flags = 0;
  uint64_t x_waking_vector = 0;
  uint8_t version = 2;
  std::array<uint8_t, 31> reserved{};
};
static_assert(sizeof(AcpiFacs) == 64);

struct [[gnu::packed]] AcpiMadt {  // 5.2.12
  AcpiHeader header{.signature = {'A', 'P', 'I', 'C'}, .revision = 5};
  uint32_t local_apic = 0;
  uint32_t flags = 1;  // a PIC, too
};
static_assert(sizeof(AcpiMadt) == 44);

namespace madt {

struct [[gnu::packed]] LocalApic {
  uint8_t type = 0;
  uint8_t length = 8;
  uint8_t uid = 0;
  uint8_t apic_id = 0;
  uint32_t flags = 1;  // enabled
};
static_assert(sizeof(LocalApic) == 8);

struct [[gnu::packed]] IoApic {
  uint8_t type = 1;
  uint8_t length = 12;
  uint8_t id = 0;
  uint8_t reserved = 0;
  uint32_t address = 0;
  uint32_t first_gsi = 0;
};
static_assert(sizeof(IoApic) == 12);

struct [[gnu::packed]] SourceOverride {
  uint8_t type = 2;
  uint8_t length = 10;
  uint8_t bus = 0;  // ISA
  uint8_t source = 0;
  uint32_t gsi = 0;
  uint16_t flags = 0;
};
static_assert(sizeof(SourceOverride) == 10);
inline constexpr uint16_t kActiveHigh = 0x01;  // flags
inline constexpr uint16_t kLevel = 0x0c;

struct [[gnu::packed]] LocalApicNmi {
  uint8_t type = 4;
  uint8_t length = 6;
  uint8_t uid = 0xff;  // all
  uint16_t flags = 0;
  uint8_t input = 1;
};
static_assert(sizeof(LocalApicNmi) == 6);

struct [[gnu::packed]] LocalX2Apic {
  uint8_t type = 9;
  uint8_t length = 16;
  uint16_t reserved = 0;
  uint32_t apic_id = 0;
  uint32_t flags = 1;  // enabled
  uint32_t uid = 0;
};
static_assert(sizeof(LocalX2Apic) == 16);

struct [[gnu::packed]] LocalX2ApicNmi {
  uint8_t type = 10;
  uint8_t length = 12;
  uint16_t flags = 0;
  uint32_t uid = 0xffff'ffff;  // all
  uint8_t input = 1;
  std::array<uint8_t, 3> reserved{};
};
static_assert(sizeof(LocalX2ApicNmi) == 12);

}  // namespace madt

struct [[gnu::packed]] AcpiMcfg {  // PCI Firmware 3.2, 4.1.2; one segment
  AcpiHeader header{.signature = {'M', 'C', 'F', 'G'}, .revision = 1};
  std::array<uint8_t, 8> reserved0{};
  uint64_t base = 0;
  uint16_t segment = 0;
  uint8_t first_bus = 0;
  uint8_t last_bus = 0;
  uint32_t reserved1 = 0;
};
static_assert(sizeof(AcpiMcfg) == 60);

}  // namespace vmm::firmware
