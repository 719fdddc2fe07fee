// SPDX-License-Identifier: Apache-2.0
//
// Leaves by Intel SDM vol. 2A (CPUID), AMD APM vol. 3 appendix E, and Documentation/virt/kvm/x86/cpuid.rst.
#include "vmm/kvm/cpuid.h"

#include <algorithm>
#include <bit>
#include <span>

#include "vmm/kvm/cpu_features.h"

namespace vmm::kvm {
namespace {

constexpr uint32_t kKvmSignatureLeaf = 0x40000000;
constexpr uint32_t kKvmTimingLeaf = 0x40000010;
constexpr uint32_t kApicBusKhz = 1'000'000;  // the local APIC timer of KVM counts nanoseconds

kvm_cpuid_entry2* find(CpuidTable& table, uint32_t function, uint32_t index = 0) {
  const auto found = std::ranges::find_if(
      table, [&](const auto& entry) { return entry.function == function && entry.index == index; });
  return found == table.end() ? nullptr : &*found;
}

void erase_leaf(CpuidTable& table, uint32_t function) {
  std::erase_if(table, [function](const auto& entry) { return entry.function == function; });
}

void set_bit(uint32_t& word, uint32_t bit, bool on) {
  word = on ? word | 1U << bit : word & ~(1U << bit);
}

// Extended topology (leaf 0xB): a thread level of one, a core level of `cpus`.
void set_extended_topology(CpuidTable& table, uint32_t cpus) {
  constexpr uint32_t kSignificantIndex = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  constexpr uint32_t kThreadLevel = 1U << 8;
  constexpr uint32_t kCoreLevel = 2U << 8;
  const auto core_bits = static_cast<uint32_t>(std::bit_width(cpus - 1));
  erase_leaf(table, 0xb);
  erase_leaf(table, 0x1f);
  erase_leaf(table, 0x80000026);
  if (auto* basic = find(table, 0); basic == nullptr || basic->eax < 0xb) return;
  table.push_back({.function = 0xb,
                   .index = 0,
                   .flags = kSignificantIndex,
                   .eax = 0,
                   .ebx = 1,
                   .ecx = kThreadLevel,
                   .edx = 0,
                   .padding = {}});
  table.push_back({.function = 0xb,
                   .index = 1,
                   .flags = kSignificantIndex,
                   .eax = core_bits,
                   .ebx = cpus,
                   .ecx = kCoreLevel | 1,
                   .edx = 0,
                   .padding = {}});
  table.push_back({.function = 0xb,
                   .index = 2,
                   .flags = kSignificantIndex,
                   .eax = 0,
                   .ebx = 0,
                   .ecx = 2,
                   .edx = 0,
                   .padding = {}});
}

// Caches (leaf 4, and AMD's 0x8000001D): first and second level private to a core, the last shared by all.
void set_cache_sharing(CpuidTable& table, uint32_t cpus) {
  for (auto& entry : table) {
    if (entry.function != 4 && entry.function != 0x8000001d) continue;
    if ((entry.eax & 0x1f) == 0) continue;  // no more caches
    const uint32_t level = entry.eax >> 5 & 7;
    const uint32_t sharing = level >= 3 ? cpus - 1 : 0;
    entry.eax = (entry.eax & ~(0xfffU << 14)) | sharing << 14;
    if (entry.function == 4) {
      const uint32_t core_ids = std::bit_ceil(cpus) - 1;
      entry.eax = (entry.eax & ~(0x3fU << 26)) | std::min(core_ids, 0x3fU) << 26;
    }
  }
}

void set_amd_topology(CpuidTable& table, uint32_t cpus) {
  if (auto* sizes = find(table, 0x80000008); sizes != nullptr) {
    const auto id_bits = static_cast<uint32_t>(std::bit_width(cpus - 1));
    sizes->ecx = (sizes->ecx & ~0xf0ffU) | id_bits << 12 | std::min(cpus - 1, 0xffU);
  }
  if (auto* extended = find(table, 0x80000001); extended != nullptr) {
    constexpr uint32_t kCmpLegacy = 1;
    constexpr uint32_t kTopologyExtensions = 22;
    set_bit(extended->ecx, kCmpLegacy, cpus > 1);
    // Leaf 0x8000001E speaks of nodes and threads as the host has them; 0xB says it all.
    if (find(table, 0xb) != nullptr)
      set_bit(extended->ecx, kTopologyExtensions, find(table, 0x8000001d) != nullptr);
  }
  if (auto* node = find(table, 0x8000001e); node != nullptr) {
    node->eax = node->ebx = 0;  // core 0 of one thread; for_vcpu() has the rest
    node->ecx = 0;              // one node
  }
}

// Frequencies: TSC by leaf 0x15 (crystal ratio) and by the hypervisor's timing leaf.
void set_frequencies(CpuidTable& table, uint32_t tsc_khz) {
  erase_leaf(table, kKvmTimingLeaf);
  if (tsc_khz == 0) return;
  if (auto* signature = find(table, kKvmSignatureLeaf); signature != nullptr) {
    signature->eax = std::max(signature->eax, kKvmTimingLeaf);
    table.push_back({.function = kKvmTimingLeaf,
                     .index = 0,
                     .flags = 0,
                     .eax = tsc_khz,
                     .ebx = kApicBusKhz,
                     .ecx = 0,
                     .edx = 0,
                     .padding = {}});
  }
  if (auto* basic = find(table, 0); basic != nullptr && basic->eax >= 0x15) {
    erase_leaf(table, 0x15);
    // A crystal of 1 MHz, so that the ratio is the frequency in MHz; exact to 1 kHz with a denominator of
    // 1000.
    table.push_back({.function = 0x15,
                     .index = 0,
                     .flags = 0,
                     .eax = 1000,
                     .ebx = tsc_khz,
                     .ecx = 1'000'000,
                     .edx = 0,
                     .padding = {}});
  }
}

}  // namespace

Result<CpuidTable> apply_cpu_model(CpuidTable table, std::string_view model) {
  std::vector<std::string_view> words;
  for (size_t begin = 0, end = 0; end != std::string_view::npos; begin = end + 1) {
    end = model.find(',', begin);
    words.push_back(model.substr(begin, end - begin));
  }
  if (words.front() != "host") return fail("--cpu {}: the only model is \"host\"; try host,-FEATURE", model);
  for (const auto word : std::span{words}.subspan(1)) {
    if (word.size() < 2 || (word[0] != '-' && word[0] != '+')) {
      return fail("--cpu: \"{}\" is neither +FEATURE nor -FEATURE", word);
    }
    const auto* feature = find_cpu_feature(word.substr(1));
    if (feature == nullptr) {
      return fail("--cpu: no feature is called \"{}\"; names are as in the flags line of /proc/cpuinfo",
                  word.substr(1));
    }
    auto* entry = find(table, feature->function, feature->index);
    if (word[0] == '-') {
      if (entry != nullptr) set_bit(entry->*(feature->word), feature->bit, false);
    } else if (entry == nullptr || (entry->*(feature->word) >> feature->bit & 1) == 0) {
      return fail("--cpu: this host's KVM cannot give \"{}\" to a guest", word.substr(1));
    }
  }
  return table;
}

CpuidTable shape_cpuid(CpuidTable supported, const CpuidOptions& options) {
  auto table = std::move(supported);
  if (auto* features = find(table, 1); features != nullptr) {
    constexpr uint32_t kTscDeadline = 24;
    constexpr uint32_t kHypervisor = 31;
    constexpr uint32_t kHyperThreading = 28;
    set_bit(features->ecx, kTscDeadline, options.tsc_deadline);
    set_bit(features->ecx, kHypervisor, true);
    set_bit(features->edx, kHyperThreading, options.cpus > 1);
    const uint32_t logical =
        std::min(std::bit_ceil(options.cpus), 128U);  // EBX[23:16]; leaf 0xB has no such limit
    features->ebx = (features->ebx & 0x0000ffff) | logical << 16;
  }
  set_extended_topology(table, options.cpus);
  set_cache_sharing(table, options.cpus);
  set_amd_topology(table, options.cpus);
  set_frequencies(table, options.tsc_khz);
  return table;
}

CpuidTable for_vcpu(const CpuidTable& table, uint32_t apic_id) {
  auto own = table;
  for (auto& entry : own) {
    switch (entry.function) {
      case 1:
        entry.ebx = (entry.ebx & 0x00ffffff) | (apic_id & 0xff) << 24;
        break;
      case 0xb:
        entry.edx = apic_id;
        break;
      case 0x8000001e:
        entry.eax = apic_id;
        entry.ebx = apic_id & 0xff;
        break;
      default:
        break;
    }
  }
  return own;
}

}  // namespace vmm::kvm
