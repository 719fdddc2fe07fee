// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpuid.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "vmm/kvm/cpu_features.h"

namespace vmm::kvm {
namespace {

kvm_cpuid_entry2 leaf(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
                      uint32_t edx) {
  return {.function = function,
          .index = index,
          .flags = 0,
          .eax = eax,
          .ebx = ebx,
          .ecx = ecx,
          .edx = edx,
          .padding = {}};
}

// A CPU with everything that is shaped: 16 logical CPUs in two packages' worth of leftovers.
CpuidTable host_table() {
  return {
      leaf(0, 0, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69),
      leaf(1, 0, 0x000806f8, 0x07100800, 0x00000001, 1U << 28),
      leaf(4, 0, 0x3c004121, 0, 0, 0),          // level 1, shared by 2
      leaf(4, 3, 0x3c07c163, 0, 0, 0),          // level 3, shared by 32
      leaf(7, 0, 0, 1U << 16 | 1U << 5, 0, 0),  // avx512f, avx2
      leaf(0xb, 0, 1, 2, 0x100, 7),
      leaf(0xb, 1, 5, 16, 0x201, 7),
      leaf(0x1f, 0, 1, 2, 0x100, 7),
      leaf(0x40000000, 0, 0x40000001, 0, 0, 0),
      leaf(0x80000008, 0, 0x3030, 0, 0x500f, 0),
      leaf(0x8000001e, 0, 9, 9, 9, 0),
  };
}

const kvm_cpuid_entry2& at(const CpuidTable& table, uint32_t function, uint32_t index = 0) {
  const auto found = std::ranges::find_if(
      table, [&](const auto& entry) { return entry.function == function && entry.index == index; });
  EXPECT_NE(found, table.end()) << std::hex << function << "." << index;
  return *found;
}

bool has(const CpuidTable& table, uint32_t function) {
  return std::ranges::any_of(table, [&](const auto& entry) { return entry.function == function; });
}

TEST(Cpuid, OneSocketOfSingleThreadedCores) {
  const auto table = shape_cpuid(host_table(), {.cpus = 6, .tsc_khz = 0, .tsc_deadline = true});
  EXPECT_EQ(at(table, 0xb, 0).eax, 0U);  // a thread level of one
  EXPECT_EQ(at(table, 0xb, 0).ebx, 1U);
  EXPECT_EQ(at(table, 0xb, 1).eax, 3U);  // six cores need three bits of the id
  EXPECT_EQ(at(table, 0xb, 1).ebx, 6U);
  EXPECT_EQ(at(table, 0xb, 2).ecx >> 8, 0U);  // no further level
  EXPECT_FALSE(has(table, 0x1f));             // would contradict
  EXPECT_EQ(at(table, 1).ebx >> 16 & 0xff, 8U);
  EXPECT_EQ(at(table, 4, 0).eax >> 14 & 0xfff, 0U);  // first level: one core's own
  EXPECT_EQ(at(table, 4, 3).eax >> 14 & 0xfff, 5U);  // last level: shared by all
  EXPECT_EQ(at(table, 0x80000008).ecx & 0xff, 5U);
  EXPECT_EQ(at(table, 0x80000008).ecx >> 12 & 0xf, 3U);
}

TEST(Cpuid, OneCpuHasNoSiblings) {
  const auto table = shape_cpuid(host_table(), {.cpus = 1, .tsc_khz = 0, .tsc_deadline = true});
  EXPECT_EQ(at(table, 1).edx >> 28 & 1, 0U);
  EXPECT_EQ(at(table, 0xb, 1).eax, 0U);
  EXPECT_EQ(at(table, 0xb, 1).ebx, 1U);
  EXPECT_EQ(at(table, 4, 3).eax >> 14 & 0xfff, 0U);
}

TEST(Cpuid, TimerAndHypervisorBits) {
  const auto with = shape_cpuid(host_table(), {.cpus = 1, .tsc_khz = 0, .tsc_deadline = true});
  EXPECT_EQ(at(with, 1).ecx >> 24 & 1, 1U);
  EXPECT_EQ(at(with, 1).ecx >> 31, 1U);
  const auto without = shape_cpuid(host_table(), {.cpus = 1, .tsc_khz = 0, .tsc_deadline = false});
  EXPECT_EQ(at(without, 1).ecx >> 24 & 1, 0U);
}

TEST(Cpuid, FrequenciesWhereTheyAreKnown) {
  const auto table = shape_cpuid(host_table(), {.cpus = 1, .tsc_khz = 2'445'404, .tsc_deadline = true});
  const auto& ratio = at(table, 0x15);
  ASSERT_NE(ratio.eax, 0U);
  EXPECT_EQ(uint64_t{ratio.ecx} * ratio.ebx / ratio.eax, 2'445'404'000U);
  EXPECT_EQ(at(table, 0x40000010).eax, 2'445'404U);
  EXPECT_EQ(at(table, 0x40000010).ebx, 1'000'000U);
  EXPECT_EQ(at(table, 0x40000000).eax, 0x40000010U);
  EXPECT_FALSE(has(shape_cpuid(host_table(), {.cpus = 1, .tsc_khz = 0, .tsc_deadline = true}), 0x40000010));
}

TEST(Cpuid, EachVcpuHasItsOwnId) {
  const auto table = shape_cpuid(host_table(), {.cpus = 4, .tsc_khz = 0, .tsc_deadline = true});
  const auto third = for_vcpu(table, 2);
  EXPECT_EQ(at(third, 1).ebx >> 24, 2U);
  for (uint32_t level = 0; level < 3; ++level) EXPECT_EQ(at(third, 0xb, level).edx, 2U);
  EXPECT_EQ(at(third, 0x8000001e).eax, 2U);
}

TEST(CpuModel, TakesFeaturesAway) {
  const auto table = apply_cpu_model(host_table(), "host,-avx512f,-ht");
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(at(*table, 7).ebx, 1U << 5);
  EXPECT_EQ(at(*table, 1).edx, 0U);
}

TEST(CpuModel, HasTheLastWord) {
  const auto machine = shape_cpuid(host_table(), {.cpus = 4, .tsc_khz = 0, .tsc_deadline = true});
  const auto table = apply_cpu_model(machine, "host,-tsc_deadline_timer,-hypervisor,-ht");
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(at(*table, 1).ecx & (1U << 24 | 1U << 31), 0U);
  EXPECT_EQ(at(*table, 1).edx & 1U << 28, 0U);
  EXPECT_TRUE(
      apply_cpu_model(machine, "host,+tsc_deadline_timer"));  // which no host lists, and the machine has
}

TEST(CpuModel, AddsOnlyWhatTheHostHas) {
  EXPECT_TRUE(apply_cpu_model(host_table(), "host,+avx2"));
  const auto refused = apply_cpu_model(host_table(), "host,+vmx");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("vmx"), std::string::npos);
}

TEST(CpuModel, RefusesWhatItDoesNotKnow) {
  for (const auto* model : {"", "haswell", "host,avx2", "host,-", "host,-nonsense", "host,", ",host"}) {
    EXPECT_FALSE(apply_cpu_model(host_table(), model)) << model;
  }
}

TEST(CpuFeatures, NamesAreUnique) {
  EXPECT_NE(find_cpu_feature("avx2"), nullptr);
  EXPECT_EQ(find_cpu_feature("avx2")->bit, 5U);
  EXPECT_EQ(find_cpu_feature("AVX2"), nullptr);
  EXPECT_EQ(find_cpu_feature(""), nullptr);
}

}  // namespace
}  // namespace vmm::kvm
