// SPDX-License-Identifier: Apache-2.0
#include "smp.h"

#include "apic.h"
#include "console.h"
#include "cpu.h"

extern "C" {
extern const uint8_t smp_trampoline[];
extern const uint8_t smp_trampoline_end[];
uint32_t smp_arrived;  // taken by LOCK XADD in the trampoline
void (*smp_entry)(uint32_t index);
}

namespace payload {
namespace {

// A start-up IPI names a page below 1 MiB: vector 0x08 is address 0x8000.
constexpr uint8_t kPage = 0x08;

}  // namespace

unsigned start_processors(const Madt& madt, void (*entry)(uint32_t index)) {
  smp_entry = entry;
  const auto size = static_cast<size_t>(smp_trampoline_end - smp_trampoline);
  __builtin_memcpy(reinterpret_cast<void*>(uint64_t{kPage} << 12), smp_trampoline, size);

  unsigned asked = 0;
  for (unsigned i = 0; i < madt.cpus; ++i) {
    const uint8_t id = madt.apic_ids[i];
    if (id == lapic_id()) continue;
    ++asked;
    send_ipi(id, kIcrInit | kIcrAssert);
    delay(1'000'000);  // the manual asks for 10 ms on real boards; no hypervisor needs it
    for (int attempt = 0; attempt < 2; ++attempt) {
      send_ipi(id, kIcrStartup | kIcrAssert | kPage);
      delay(200'000);
    }
  }
  return asked;
}

}  // namespace payload

extern "C" void ap_main(uint32_t index) {
  smp_entry(index);
}
