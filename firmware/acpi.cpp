// SPDX-License-Identifier: Apache-2.0
#include "firmware/acpi.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <span>

#include <fmt/format.h>

#include "firmware/acpi_tables.h"
#include "firmware/aml.h"

// firmware/aml_tables.S
extern "C" {
extern const std::byte vmm_aml_dsdt[], vmm_aml_dsdt_end[];
extern const std::byte vmm_aml_com1[], vmm_aml_com1_end[];
extern const std::byte vmm_aml_pci[], vmm_aml_pci_end[];
extern const std::byte vmm_aml_pvpanic[], vmm_aml_pvpanic_end[];
extern const std::byte vmm_aml_rtc[], vmm_aml_rtc_end[];
}

namespace vmm::firmware {
namespace {

using aml::Bytes;

constexpr uint64_t kEcamSize = 1 << 20;  // one bus
constexpr uint64_t kVirtioMmioSize = 4096;
constexpr uint16_t kPciSegment = 1;  // as in asl/pci.asl
constexpr uint16_t kResetPort = 0xcf9;
constexpr uint8_t kResetValue = 0x06;
constexpr uint8_t kCenturyIndex = 0x32;
constexpr uint32_t kFirstX2ApicId = 255;  // 255 is the broadcast address of an xAPIC

// The registers of legacy::AcpiPm.
constexpr uint16_t kPm1EventOffset = 0;
constexpr uint16_t kPm1ControlOffset = 4;
constexpr uint16_t kPmTimerOffset = 8;

template <typename T>
void append(Bytes& to, const T& value) {
  aml::append(to, std::as_bytes(std::span{&value, 1}));
}

std::byte checksum(std::span<const std::byte> bytes) {
  const auto add = [](unsigned sum, std::byte byte) { return sum + std::to_integer<unsigned>(byte); };
  return static_cast<std::byte>(0U - std::accumulate(bytes.begin(), bytes.end(), 0U, add));
}

// Fills in what a table says about its own bytes.
void seal(Bytes& table) {
  const auto length = static_cast<uint32_t>(table.size());
  std::memcpy(table.data() + offsetof(AcpiHeader, length), &length, sizeof length);
  table[offsetof(AcpiHeader, checksum)] = std::byte{0};
  table[offsetof(AcpiHeader, checksum)] = checksum(table);
}

Bytes make_madt(const AcpiConfig& config) {
  Bytes table;
  append(table, AcpiMadt{.local_apic = static_cast<uint32_t>(config.local_apic.raw)});
  for (uint32_t id = 0; id < config.cpus; ++id) {
    if (id < kFirstX2ApicId) {
      append(table, madt::LocalApic{.uid = static_cast<uint8_t>(id), .apic_id = static_cast<uint8_t>(id)});
    } else {
      append(table, madt::LocalX2Apic{.apic_id = id, .uid = id});
    }
  }
  append(table, madt::IoApic{.address = static_cast<uint32_t>(config.io_apic.raw)});
  append(table, madt::SourceOverride{.source = static_cast<uint8_t>(config.sci.raw),
                                     .gsi = config.sci.raw,
                                     .flags = madt::kActiveHigh | madt::kLevel});
  append(table, madt::LocalApicNmi{});
  if (config.cpus > kFirstX2ApicId) append(table, madt::LocalX2ApicNmi{});
  seal(table);
  return table;
}

Bytes make_mcfg(Gpa ecam) {
  Bytes table;
  append(table, AcpiMcfg{.base = ecam.raw, .segment = kPciSegment});
  seal(table);
  return table;
}

// What depends on numbers: processors, virtio devices over MMIO, and the reservation of the ECAM, which Linux
// wants to see before it trusts the MCFG (PCI Firmware 3.2, 4.1.2).
Bytes make_ssdt(const AcpiConfig& config) {
  Bytes objects;
  for (uint32_t id = 0; id < config.cpus; ++id) {
    aml::append(objects, aml::device(fmt::format("C{:03X}", id), {aml::name("_HID", aml::string("ACPI0007")),
                                                                  aml::name("_UID", aml::integer(id))}));
  }
  for (size_t i = 0; i < config.virtio_mmio.size(); ++i) {
    const auto& [base, gsi] = config.virtio_mmio[i];
    const auto resources = aml::resources(
        {aml::memory32(static_cast<uint32_t>(base.raw), kVirtioMmioSize), aml::edge_interrupt(gsi)});
    aml::append(objects, aml::device(fmt::format("V{:03X}", i),
                                     {aml::name("_HID", aml::string("LNRO0005")),
                                      aml::name("_UID", aml::integer(i)), aml::name("_CRS", resources)}));
  }
  if (config.ecam) {
    const auto resources =
        aml::resources({aml::memory32(static_cast<uint32_t>(config.ecam->raw), kEcamSize)});
    aml::append(objects, aml::device("ECAM", {aml::name("_HID", aml::string("PNP0C02")),
                                              aml::name("_CRS", resources)}));
  }
  Bytes table;
  append(table, AcpiHeader{.signature = {'S', 'S', 'D', 'T'}, .revision = 2});
  aml::append(table, aml::system_bus(objects));
  seal(table);
  return table;
}

Bytes make_fadt(const AcpiConfig& config, Gpa facs, Gpa dsdt) {
  const auto port = [](uint16_t number, uint8_t bits, AcpiAddress::Access access) {
    return AcpiAddress{AcpiAddress::Space::port, bits, 0, access, number};
  };
  const auto pm = [&config](uint16_t offset) { return static_cast<uint16_t>(config.pm.raw + offset); };

  AcpiFadt fadt;
  fadt.firmware_control = static_cast<uint32_t>(facs.raw);  // the 64-bit field must then be zero
  fadt.dsdt = static_cast<uint32_t>(dsdt.raw);
  fadt.x_dsdt = dsdt.raw;
  fadt.sci_interrupt = static_cast<uint16_t>(config.sci.raw);

  fadt.pm1a_event_block = pm(kPm1EventOffset);
  fadt.pm1_event_length = 4;
  fadt.x_pm1a_event_block = port(pm(kPm1EventOffset), 32, AcpiAddress::Access::word);
  fadt.pm1a_control_block = pm(kPm1ControlOffset);
  fadt.pm1_control_length = 2;
  fadt.x_pm1a_control_block = port(pm(kPm1ControlOffset), 16, AcpiAddress::Access::word);
  fadt.flags = fadt::kWbinvd | fadt::kC1 | fadt::kNoSleepButton | fadt::kNoFixedRtcWake;
  if (config.pm_timer) {
    fadt.pm_timer_block = pm(kPmTimerOffset);
    fadt.pm_timer_length = 4;
    fadt.x_pm_timer_block = port(pm(kPmTimerOffset), 32, AcpiAddress::Access::dword);
    fadt.flags |= fadt::kTimer32Bits;
  }

  fadt.reset_register = port(kResetPort, 8, AcpiAddress::Access::byte);
  fadt.reset_value = kResetValue;
  fadt.flags |= fadt::kResetRegister;

  unsigned boot = fadt::kVgaNotPresent;
  if (config.com1) boot |= fadt::kLegacyDevices;
  if (config.i8042) boot |= fadt::k8042;
  if (!config.cmos_rtc) boot |= fadt::kCmosRtcNotPresent;
  fadt.boot_architecture = static_cast<uint16_t>(boot);
  if (config.cmos_rtc) fadt.century = kCenturyIndex;

  Bytes table;
  append(table, fadt);
  seal(table);
  return table;
}

// Puts one table after another into the space for them.
class Placer {
 public:
  explicit Placer(const GuestMemory& memory) : memory_(memory) {}

  Gpa place(std::span<const std::byte> table, uint64_t alignment = 16) {
    next_ = (next_ + alignment - 1) & ~(alignment - 1);
    const Gpa at{kAcpiBase.raw + next_};
    next_ += table.size();
    if (next_ <= kAcpiSpace && !memory_.write(at, table)) in_ram_ = false;
    return at;
  }

  [[nodiscard]] Result<void> result() const {
    if (next_ > kAcpiSpace) {
      return fail("ACPI tables: {} KiB, but the space for them is {} KiB; give the machine fewer processors",
                  next_ >> 10, kAcpiSpace >> 10);
    }
    if (!in_ram_)
      return fail("ACPI tables: no memory at {:#x}; give the guest at least 1 MiB", kAcpiBase.raw);
    return {};
  }

 private:
  const GuestMemory& memory_;
  uint64_t next_ = 0;  // bytes taken of kAcpiSpace; may run past it, then nothing was written there
  bool in_ram_ = true;
};

Result<void> check(const AcpiConfig& config) {
  constexpr uint32_t kMostNames = 0x1000;  // three hexadecimal digits
  if (config.cpus == 0) return fail("ACPI tables: a machine has at least one processor");
  if (config.cpus > kMostNames)
    return fail("ACPI tables: {} processors, at most {}", config.cpus, kMostNames);
  if (config.virtio_mmio.size() > kMostNames) {
    return fail("ACPI tables: {} virtio devices, at most {}", config.virtio_mmio.size(), kMostNames);
  }
  if (config.sci.raw > 15) return fail("ACPI tables: SCI {} is no ISA interrupt", config.sci.raw);
  const auto below_4g = [](Gpa at) { return at.raw <= 0xffff'0000; };
  const bool addresses = below_4g(config.local_apic) && below_4g(config.io_apic) &&
                         (!config.ecam || below_4g(*config.ecam)) &&
                         std::ranges::all_of(config.virtio_mmio, below_4g, &AcpiConfig::VirtioMmio::base);
  if (!addresses) return fail("ACPI tables: a device lies above 4 GiB");
  return {};
}

}  // namespace

Result<Gpa> write_acpi(const GuestMemory& memory, const AcpiConfig& config) {
  VMM_TRY(check(config));
  Placer placer(memory);
  AcpiRsdp rsdp;
  const auto rsdp_bytes = std::as_bytes(std::span{&rsdp, 1});
  const Gpa rsdp_at = placer.place(rsdp_bytes);

  const AcpiFacs facs;
  const Gpa facs_at = placer.place(std::as_bytes(std::span{&facs, 1}), sizeof facs);
  const Gpa dsdt_at = placer.place({vmm_aml_dsdt, vmm_aml_dsdt_end});

  std::vector<Gpa> listed;
  listed.push_back(placer.place(make_fadt(config, facs_at, dsdt_at)));
  listed.push_back(placer.place(make_madt(config)));
  if (config.ecam) {
    listed.push_back(placer.place(make_mcfg(*config.ecam)));
    listed.push_back(placer.place({vmm_aml_pci, vmm_aml_pci_end}));
  }
  if (config.com1) listed.push_back(placer.place({vmm_aml_com1, vmm_aml_com1_end}));
  if (config.pvpanic) listed.push_back(placer.place({vmm_aml_pvpanic, vmm_aml_pvpanic_end}));
  if (config.cmos_rtc) listed.push_back(placer.place({vmm_aml_rtc, vmm_aml_rtc_end}));
  listed.push_back(placer.place(make_ssdt(config)));

  Bytes xsdt;
  append(xsdt, AcpiHeader{.signature = {'X', 'S', 'D', 'T'}, .revision = 1});
  for (const Gpa table : listed) append(xsdt, table.raw);
  seal(xsdt);

  rsdp.xsdt_address = placer.place(xsdt).raw;
  rsdp.checksum = static_cast<uint8_t>(checksum(rsdp_bytes.first(offsetof(AcpiRsdp, length))));
  rsdp.extended_checksum = static_cast<uint8_t>(checksum(rsdp_bytes));
  VMM_TRY(placer.result());
  if (!memory.write(rsdp_at, rsdp_bytes)) return fail("ACPI tables: no memory at {:#x}", rsdp_at.raw);
  return rsdp_at;
}

}  // namespace vmm::firmware
