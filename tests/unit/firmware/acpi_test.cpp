// SPDX-License-Identifier: Apache-2.0
#include "firmware/acpi.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "devices/legacy/acpi_pm.h"
#include "devices/pci/intx.h"
#include "firmware/acpi_tables.h"
#include "vmm/machine/layout.h"

namespace vmm::firmware {
namespace {

using Bytes = std::vector<std::byte>;

GuestMemory make_memory(uint64_t size = 2 << 20) {
  const GuestMemory::Range range{Gpa{0}, size};
  return std::move(*GuestMemory::create({&range, 1}));
}

AcpiConfig full_config() {
  AcpiConfig config;
  config.cpus = 4;
  config.ecam = Gpa{0xe0000000};
  config.pm_timer = true;
  config.virtio_mmio = {{Gpa{0xfeb00000}, Gsi{5}}, {Gpa{0xfeb01000}, Gsi{23}}};
  config.cmos_rtc = true;
  return config;
}

uint8_t sum(std::span<const std::byte> bytes) {
  return static_cast<uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0U, [](unsigned all, std::byte b) {
    return all + std::to_integer<unsigned>(b);
  }));
}

template <typename T>
T as(const Bytes& bytes, size_t offset = 0) {
  T value;
  EXPECT_LE(offset + sizeof value, bytes.size());
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The tables as a guest finds them, by signature; several SSDTs count up.
class Tables {
 public:
  Tables(const GuestMemory& memory, Gpa rsdp_at) : memory_(memory) {
    const Bytes rsdp_bytes = read(rsdp_at, sizeof(AcpiRsdp));
    const auto rsdp = as<AcpiRsdp>(rsdp_bytes);
    EXPECT_EQ(std::string(rsdp.signature.data(), 8), "RSD PTR ");
    EXPECT_EQ(sum(std::span{rsdp_bytes}.first(20)), 0);
    EXPECT_EQ(sum(rsdp_bytes), 0);
    const Bytes xsdt = add(Gpa{rsdp.xsdt_address});
    for (size_t at = sizeof(AcpiHeader); at < xsdt.size(); at += 8) add(Gpa{as<uint64_t>(xsdt, at)});
    const auto fadt = as<AcpiFadt>(tables.at("FACP"));
    EXPECT_EQ(fadt.dsdt, fadt.x_dsdt);
    add(Gpa{fadt.x_dsdt});
    EXPECT_EQ(fadt.firmware_control % 64, 0U);
    facs = read(Gpa{fadt.firmware_control}, sizeof(AcpiFacs));
    lowest = std::min(lowest, uint64_t{fadt.firmware_control});
  }

  std::map<std::string, Bytes> tables;
  Bytes facs;
  uint64_t lowest = ~0ULL;
  uint64_t end = 0;

 private:
  Bytes read(Gpa at, size_t size) {
    Bytes bytes(size);
    EXPECT_TRUE(memory_.read(at, bytes));
    return bytes;
  }
  Bytes add(Gpa at) {
    const auto header = memory_.load<AcpiHeader>(at);
    EXPECT_TRUE(header);
    const Bytes table = read(at, header->length);
    std::string name(header->signature.data(), 4);
    EXPECT_EQ(sum(table), 0) << name;
    if (name == "SSDT") name += std::to_string(tables.size());
    EXPECT_TRUE(tables.emplace(name, table).second) << name << " twice";
    lowest = std::min(lowest, at.raw);
    end = std::max(end, at.raw + table.size());
    return table;
  }
  const GuestMemory& memory_;
};

Tables write(const AcpiConfig& config) {
  const auto memory = make_memory();
  const auto rsdp = write_acpi(memory, config);
  EXPECT_TRUE(rsdp) << (rsdp ? "" : rsdp.error().message);
  return Tables(memory, rsdp.value_or(Gpa{}));
}

TEST(Acpi, StaysInItsPlace) {
  const auto memory = make_memory();
  const auto rsdp = write_acpi(memory, full_config());
  ASSERT_TRUE(rsdp);
  EXPECT_EQ(rsdp->raw % 16, 0U) << "or a search does not find it";
  EXPECT_GE(rsdp->raw, 0xe0000U);
  const Tables tables(memory, *rsdp);
  EXPECT_GE(tables.lowest, kAcpiBase.raw);
  EXPECT_LE(tables.end, kAcpiBase.raw + kAcpiSpace);
  for (const uint64_t at : {kAcpiBase.raw - 8, kAcpiBase.raw + kAcpiSpace})
    EXPECT_EQ(memory.load<uint64_t>(Gpa{at}), 0U);
}

TEST(Acpi, FixedHardware) {
  const auto fadt = as<AcpiFadt>(write(full_config()).tables.at("FACP"));
  EXPECT_EQ(fadt.sci_interrupt, 9);
  EXPECT_EQ(fadt.pm1a_event_block, 0x600U);
  EXPECT_EQ(fadt.pm1a_control_block, 0x604U);
  EXPECT_EQ(fadt.pm_timer_block, 0x608U);
  EXPECT_EQ(fadt.x_pm_timer_block.address, 0x608U);
  EXPECT_EQ(fadt.flags & (1U << 4), 0U) << "the power button is fixed hardware";
  EXPECT_NE(fadt.flags & (1U << 5), 0U) << "there is no sleep button";
  EXPECT_NE(fadt.flags & (1U << 8), 0U) << "the timer has 32 bits";
  EXPECT_NE(fadt.flags & (1U << 10), 0U) << "there is a reset register";
  EXPECT_EQ(fadt.flags & (1U << 20), 0U) << "not hardware-reduced";
  EXPECT_EQ(fadt.reset_register.address, 0xcf9U);
  EXPECT_EQ(fadt.reset_value, 6);
  EXPECT_EQ(fadt.boot_architecture, 0x0005) << "legacy devices and no VGA";
  EXPECT_EQ(fadt.century, 0x32);
}

TEST(Acpi, AbsentPartsAreSaidToBe) {
  AcpiConfig config;
  config.com1 = config.pvpanic = config.pm_timer = false;
  const Tables tables = write(config);
  const auto fadt = as<AcpiFadt>(tables.tables.at("FACP"));
  EXPECT_EQ(fadt.boot_architecture, 0x0024) << "no VGA, no CMOS clock";
  EXPECT_EQ(fadt.pm_timer_block, 0U);
  EXPECT_EQ(fadt.pm_timer_length, 0);
  EXPECT_EQ(fadt.century, 0);
  EXPECT_FALSE(tables.tables.contains("MCFG"));
  EXPECT_EQ(tables.tables.size(), 5U) << "XSDT, FADT, DSDT, MADT and one SSDT";
  config.i8042 = true;
  EXPECT_EQ(as<AcpiFadt>(write(config).tables.at("FACP")).boot_architecture, 0x0026);
}

TEST(Acpi, Mcfg) {
  const auto mcfg = as<AcpiMcfg>(write(full_config()).tables.at("MCFG"));
  EXPECT_EQ(mcfg.base, 0xe0000000U);
  EXPECT_EQ(mcfg.segment, 1);  // the _SEG of asl/pci.asl
  EXPECT_EQ(mcfg.first_bus, 0);
  EXPECT_EQ(mcfg.last_bus, 0);
}

TEST(Acpi, Madt) {
  for (const uint32_t cpus : {1U, 16U, 255U, 256U, 300U}) {
    AcpiConfig config;
    config.cpus = cpus;
    const Bytes table = write(config).tables.at("APIC");
    EXPECT_EQ(as<AcpiMadt>(table).local_apic, 0xfee00000U);
    std::map<int, uint32_t> counts;
    uint32_t next_id = 0;
    for (size_t at = sizeof(AcpiMadt); at < table.size();) {
      const auto type = as<uint8_t>(table, at);
      const auto length = as<uint8_t>(table, at + 1);
      ASSERT_GE(length, 2);
      ++counts[type];
      if (type == 0) {
        EXPECT_EQ(as<madt::LocalApic>(table, at).apic_id, next_id++);
      } else if (type == 9) {
        EXPECT_EQ(as<madt::LocalX2Apic>(table, at).apic_id, next_id++);
        EXPECT_GE(next_id, 256U);
      } else if (type == 2) {
        const auto entry = as<madt::SourceOverride>(table, at);
        EXPECT_EQ(entry.source, 9);
        EXPECT_EQ(entry.gsi, 9U);
        EXPECT_EQ(entry.flags, 0x0d) << "level, active high";
      }
      at += length;
    }
    EXPECT_EQ(next_id, cpus);
    EXPECT_EQ(counts[1], 1U);
    EXPECT_EQ(counts[2], 1U);
    EXPECT_EQ(counts[4], 1U);
    EXPECT_EQ(counts[10], cpus > 255 ? 1U : 0U);
  }
}

TEST(Acpi, S5IsWhatThePmBlockTakes) {
  const Bytes dsdt = write({}).tables.at("DSDT");
  const std::string text(reinterpret_cast<const char*>(dsdt.data()), dsdt.size());
  // Name, package of 4: the first element is the sleep type, and zero is one byte.
  const auto at = text.find("_S5_\x12\x06\x04");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(text[at + 7], char{legacy::AcpiPm::kSleepTypeS5});
}

// The addresses written in ASL are those of the machine's layout.
TEST(Acpi, AgreesWithTheLayout) {
  const Tables tables = write(full_config());
  // A small or large resource descriptor that starts with these bytes, in the SSDT that names its device.
  const auto descriptor = [&tables](std::string_view device, std::string_view start) {
    for (const auto& [name, table] : tables.tables) {
      const std::string_view text(reinterpret_cast<const char*>(table.data()), table.size());
      const auto at = text.find(device);
      if (at == std::string_view::npos) continue;
      const auto found = text.find(start, text.find("_CRS", at));
      if (found == std::string_view::npos) continue;
      return Bytes(table.begin() + static_cast<std::ptrdiff_t>(found), table.end());
    }
    ADD_FAILURE() << "no such descriptor for " << device;
    return Bytes(64);
  };
  using namespace std::string_view_literals;
  const Bytes window =
      descriptor("PCI0", "\x87\x17\x00"sv);  // DWordMemory, at 6: granularity, first, last, …
  EXPECT_EQ(as<uint32_t>(window, 10), layout::kPciWindow);
  EXPECT_EQ(as<uint32_t>(window, 14), layout::kPciWindow + layout::kPciWindowSize - 1);
  EXPECT_EQ(as<uint32_t>(window, 22), layout::kPciWindowSize);
  const Bytes ports = descriptor("PCI0", "\x88\x0d\x00\x01"sv);  // WordIO, at 6: the same
  EXPECT_EQ(as<uint16_t>(ports, 8), layout::kPciPorts);
  EXPECT_EQ(as<uint16_t>(ports, 10), layout::kPciPorts + layout::kPciPortsSize - 1);
  EXPECT_EQ(as<uint16_t>(ports, 14), layout::kPciPortsSize);
  const auto port = [&descriptor](std::string_view device) {  // IO, at 2: the first port
    return as<uint16_t>(descriptor(device, "\x47\x01"sv), 2);
  };
  EXPECT_EQ(port("PCI0"), layout::kPciConfig);
  EXPECT_EQ(port("COM1"), layout::kCom1);
  EXPECT_EQ(port("PEVT"), layout::kPvpanic);
  EXPECT_EQ(port("RTC_"), layout::kCmos);
  EXPECT_EQ(as<uint16_t>(descriptor("COM1", "\x22"sv), 1), 1U << layout::kCom1Gsi.raw);  // IRQNoFlags: a mask
  EXPECT_EQ(as<AcpiFadt>(tables.tables.at("FACP")).reset_register.address, layout::kResetControl);
  EXPECT_EQ(kAcpiBase.raw, layout::kFirmwareTables);
}

// Pin A of each slot, as the PCI bus wires it.
TEST(Acpi, InterruptPins) {
  const Tables tables = write(full_config());
  for (const auto& [name, table] : tables.tables) {
    const std::string_view text(reinterpret_cast<const char*>(table.data()), table.size());
    const auto at = text.find("_PRT");
    if (at == std::string_view::npos) continue;
    std::string expected;
    for (uint8_t device = 0; device < 32; ++device) {
      // Package of 4: device in the high word, pin 0, no link device, the GSI.
      const auto gsi = static_cast<char>(pci::intx_gsi(device).raw);
      const std::string address = device == 0
                                      ? std::string("\x0b\xff\xff", 3)
                                      : std::string("\x0c\xff\xff", 3) + static_cast<char>(device) + '\0';
      const std::string content = std::string("\x04") + address + std::string("\0\0\x0a", 3) + gsi;
      expected += std::string("\x12") + static_cast<char>(content.size() + 1) + content;
    }
    EXPECT_NE(text.find(expected, at), std::string_view::npos);
    return;
  }
  ADD_FAILURE() << "no _PRT";
}

TEST(Acpi, WhatDoesNotFitIsRefused) {
  const auto memory = make_memory();
  AcpiConfig config;
  config.cpus = 4096;
  const auto too_many = write_acpi(memory, config);
  ASSERT_FALSE(too_many);
  EXPECT_NE(too_many.error().message.find("fewer processors"), std::string::npos) << too_many.error().message;
  EXPECT_EQ(memory.load<uint64_t>(Gpa{kAcpiBase.raw + kAcpiSpace}), 0U);
  config.cpus = 5000;
  EXPECT_FALSE(write_acpi(memory, config));
  config.cpus = 0;
  EXPECT_FALSE(write_acpi(memory, config));
  config = {};
  config.virtio_mmio = {{Gpa{0x1'0000'0000}, Gsi{5}}};
  EXPECT_FALSE(write_acpi(memory, config));
  EXPECT_FALSE(write_acpi(make_memory(0x80000), AcpiConfig{})) << "RAM ends below";
}

// The reference compiler takes each table apart and puts it together again.
class AcpiWithIasl : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "vmm-acpi-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Runs a command in the directory; its output, with the exit status at the end.
  std::string run(const std::string& command) const {
    const std::string line = "cd " + directory_.string() + " && { " + command + "; } 2>&1; echo status $?";
    std::string output;
    FILE* pipe = ::popen(line.c_str(), "r");
    if (pipe == nullptr) return "popen failed";
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output.push_back(static_cast<char>(c));
    ::pclose(pipe);
    return output;
  }
  void save(const std::string& name, const Bytes& table) const {
    std::ofstream file(directory_ / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(table.data()), static_cast<std::streamsize>(table.size()));
  }
  Bytes load(const std::string& name) const {
    std::ifstream file(directory_ / name, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto bytes = std::as_bytes(std::span{text});
    return {bytes.begin(), bytes.end()};
  }
  std::filesystem::path directory_;
};

TEST_F(AcpiWithIasl, RoundTrip) {
  Tables all = write(full_config());
  all.tables["FACS"] = all.facs;
  EXPECT_EQ(all.tables.size(), 11U);
  for (const auto& [name, table] : all.tables) {
    save(name + ".dat", table);
    const std::string apart = run(VMM_IASL " -d " + name + ".dat");
    EXPECT_NE(apart.find("status 0"), std::string::npos) << name << ": " << apart;
    for (const char* word : {"rror", "arning", "nvalid", "ncorrect"}) {
      EXPECT_EQ(apart.find(word), std::string::npos) << name << ": " << apart;
    }
    const std::string together = run(VMM_IASL " -p again " + name + ".dsl");
    EXPECT_NE(together.find("status 0"), std::string::npos) << name << ": " << together;
    EXPECT_NE(together.find("0 Errors, 0 Warnings"), std::string::npos) << name << ": " << together;
    // What is behind the header, with its compiler's name, is as it was.
    const Bytes again = load("again.aml");
    ASSERT_EQ(again.size(), table.size()) << name;
    EXPECT_TRUE(std::equal(table.begin() + 36, table.end(), again.begin() + 36)) << name;
    std::filesystem::remove(directory_ / "again.aml");
  }
}

// The reference interpreter loads all of it and finds the objects by their names.
TEST_F(AcpiWithIasl, Namespace) {
  if (std::string{VMM_ACPIEXEC}.empty()) GTEST_SKIP() << "acpiexec is not installed";
  std::string files;
  for (const auto& [name, table] : write(full_config()).tables) {
    if (name != "DSDT" && !name.starts_with("SSDT")) continue;
    save(name + ".aml", table);
    files += name + ".aml ";
  }
  const std::string output = run(
      "printf '%s\\n' 'resources \\_SB.V001' 'resources \\_SB.PCI0' 'resources \\_SB.ECAM' 'evaluate "
      "\\_SB.C003._UID' "
      "'evaluate \\_SB.PCI0._PRT' 'evaluate \\_SB.PEVT._HID' 'evaluate \\_S5' quit | timeout 30 " VMM_ACPIEXEC
      " " +
      files);
  for (const char* word : {"ACPI Error", "ACPI Warning", "ACPI BIOS", "Exception"}) {
    EXPECT_EQ(output.find(word), std::string::npos) << output;
  }
  for (const char* word :
       {"FEB01000", "00000017", "DFFFFFFF", "E0000000", "QEMU0001", "001FFFFF", "0000000000000003"}) {
    EXPECT_NE(output.find(word), std::string::npos) << word << " in " << output;
  }
}

}  // namespace
}  // namespace vmm::firmware
