// SPDX-License-Identifier: Apache-2.0
// Lesson: what a processor says of itself, and how much of that a hypervisor decides.
//
// Shows: the hypervisor bit and signature; the topology, which must agree with the MADT on every
//   processor; the TSC's frequency as the hypervisor tells it, measured against the ACPI PM timer.
// Manual: Intel SDM vol. 2, CPUID (leaf 0x0B) and vol. 3, 8.9 "Programming Considerations for
//   Multi-Threading"; Linux Documentation/virt/kvm/x86/cpuid.rst (leaves from 0x40000000).
// See: "cores N" with N as the machine was configured, the frequency told and measured, and the exit
//   status 33.
#include <initializer_list>

#include "acpi.h"
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "smp.h"

using namespace payload;

namespace {

// By leaf 0x0B, each of a processor's levels: type in ECX[15:8] (1 thread, 2 core), processors below it in
// EBX.
struct Topology {
  uint32_t threads = 0;
  uint32_t processors = 0;
  uint32_t id = 0;
};

Topology topology() {
  Topology found;
  for (uint32_t level = 0; level < 8; ++level) {
    const CpuidLeaf leaf = cpuid(0xB, level);
    const uint32_t type = (leaf.ecx >> 8) & 0xFF;
    if (type == 0) break;
    if (type == 1) found.threads = leaf.ebx & 0xFFFF;
    if (type == 2) found.processors = leaf.ebx & 0xFFFF;
    found.id = leaf.edx;
  }
  return found;
}

volatile bool done[256];
volatile uint32_t said[256];
volatile uint32_t initial[256];

void tell_id() {
  const uint8_t id = lapic_id();
  said[id] = topology().id;
  initial[id] = cpuid(1).ebx >> 24;
  done[id] = true;
}

void processor(uint32_t) {
  tell_id();
}

void put_text(uint32_t word) {
  for (int i = 0; i < 4; ++i) put(static_cast<char>(word >> (8 * i)));
}

// The PM timer and the TSC at one moment. On a busy host anything may happen between two instructions, so the
// closest of a few tries is taken.
struct Moment {
  uint64_t tsc = 0;
  uint32_t timer = 0;
};

Moment read_clocks(uint16_t pm_timer) {
  Moment best;
  uint64_t best_width = ~uint64_t{0};
  for (int i = 0; i < 10; ++i) {
    const uint64_t before = rdtsc();
    const uint32_t timer = in32(pm_timer);
    const uint64_t width = rdtsc() - before;
    if (width >= best_width) continue;
    best_width = width;
    best = {before + width / 2, timer};
  }
  return best;
}

// Over 20 ms of the PM timer's 3.579545 MHz.
uint64_t measure_tsc_khz(uint16_t pm_timer) {
  constexpr uint32_t kTicks = 71'591;
  const Moment start = read_clocks(pm_timer);
  check(wait_until([=] { return ((in32(pm_timer) - start.timer) & 0xFFFFFF) >= kTicks; }),
        "the PM timer runs");
  const Moment end = read_clocks(pm_timer);
  return (end.tsc - start.tsc) * 3'579'545 / ((end.timer - start.timer) & 0xFFFFFF) / 1000;
}

}  // namespace

void payload_main(const Boot&) {
  enable_lapic();
  constexpr uint32_t kHypervisor = 1u << 31;
  check((cpuid(1).ecx & kHypervisor) != 0, "CPUID.1:ECX[31], a hypervisor is there");
  const CpuidLeaf signature = cpuid(0x40000000);
  print("signature ");
  for (const uint32_t* word : {&signature.ebx, &signature.ecx, &signature.edx}) put_text(*word);
  print('\n');

  const uint64_t rsdp = find_rsdp();
  check(rsdp != 0, "the RSDP is found");
  const Madt madt = read_madt(rsdp);
  check(cpuid(0).eax >= 0xB, "leaf 0x0B is there");
  print("threads ", topology().threads, " cores ", topology().processors, '\n');
  check(topology().threads == 1, "one thread a core");
  check(topology().processors == madt.cpus, "as many cores as the MADT lists");

  tell_id();
  start_processors(madt, processor);
  for (unsigned i = 0; i < madt.cpus; ++i) {
    const uint8_t id = madt.apic_ids[i];
    check(wait_until([=] { return done[id]; }), "each processor starts");
    check(said[id] == id, "leaf 0x0B tells the APIC id");
    check(initial[id] == id, "leaf 1 tells the APIC id");
  }
  print("each processor knows its APIC id\n");

  const uint64_t measured = measure_tsc_khz(static_cast<uint16_t>(read_fadt(rsdp).pm_timer));
  const uint64_t told = signature.eax >= 0x40000010 ? cpuid(0x40000010).eax : 0;
  print("tsc kHz told ", told, " measured ", measured, '\n');
  check(told != 0, "leaf 0x40000010 tells the TSC frequency");
  const uint64_t difference = told > measured ? told - measured : measured - told;
  check(difference < told / 10, "and it is what was measured, within a tenth");
  pass();
}
