// SPDX-License-Identifier: Apache-2.0
// Privileged registers and instructions that payloads need, under the names of the Intel SDM.
#pragma once

#include <stdint.h>

namespace payload {

struct CpuidLeaf {
  uint32_t eax, ebx, ecx, edx;
};
inline CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidLeaf r;
  asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return r;
}

inline uint64_t rdmsr(uint32_t msr) {
  uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return (uint64_t{high} << 32) | low;
}
inline void wrmsr(uint32_t msr, uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(msr), "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32))
               : "memory");
}

inline uint64_t rdtsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t{high} << 32) | low;
}

inline uint64_t read_cr0() {
  uint64_t v;
  asm volatile("mov %%cr0, %0" : "=r"(v));
  return v;
}
inline uint64_t read_cr2() {
  uint64_t v;
  asm volatile("mov %%cr2, %0" : "=r"(v));
  return v;
}
inline uint64_t read_cr3() {
  uint64_t v;
  asm volatile("mov %%cr3, %0" : "=r"(v));
  return v;
}
inline uint64_t read_cr4() {
  uint64_t v;
  asm volatile("mov %%cr4, %0" : "=r"(v));
  return v;
}
inline void write_cr3(uint64_t v) {
  asm volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}
inline void invlpg(uint64_t address) {
  asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

inline void enable_interrupts() {
  asm volatile("sti" : : : "memory");
}
inline void disable_interrupts() {
  asm volatile("cli" : : : "memory");
}
inline void relax() {
  asm volatile("pause" : : : "memory");
}

// Spins until `done()` or about `ticks` of the TSC have gone by; tells which. Every wait of a payload is
// bounded, so a missing interrupt ends in a message and not in a hang. The default is several seconds on
// today's processors: a busy host may take that long.
template <class Done>
bool wait_until(Done done, uint64_t ticks = 15'000'000'000) {
  const uint64_t start = rdtsc();
  while (!done()) {
    if (rdtsc() - start > ticks) return done();
    relax();
  }
  return true;
}
inline void delay(uint64_t ticks) {
  wait_until([] { return false; }, ticks);
}

// Halts until an interrupt handler has made `done()` true. It is asked with interrupts off, and STI lets none
// in before the instruction after it (SDM vol. 2, STI), so that none comes between the question and the HLT.
// Not bounded: for what people do.
template <class Done>
void sleep_until(Done done) {
  while (true) {
    disable_interrupts();
    if (done()) break;
    asm volatile("sti; hlt" : : : "memory");
  }
  enable_interrupts();
}

}  // namespace payload
