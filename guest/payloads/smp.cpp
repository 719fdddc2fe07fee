// SPDX-License-Identifier: Apache-2.0
// Lesson: more than one processor: who is there, how they are started, how they interrupt each other.
//
// Shows: the MADT lists the processors; INIT and start-up IPIs wake each in real mode; a fixed IPI
//   reaches one, the shorthands reach oneself, or all but oneself.
// Manual: Intel SDM vol. 3, 8.4 "Multiple-Processor Initialization" and 10.6 "Issuing Interprocessor
//   Interrupts"; ACPI 6.5, 5.2.12 (MADT). The steps of the start are in lib/smp.cpp and
//   lib/smp_trampoline.S.
// See: "processors N" with N as the machine was configured, each processor's APIC id, and the exit status
//   33.
#include "smp.h"

#include <initializer_list>

#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "interrupts.h"

using namespace payload;

namespace {

constexpr uint8_t kOne = 0x30;
constexpr uint8_t kEverybodyElse = 0x31;
constexpr uint8_t kMyself = 0x32;

// Indexed by APIC id.
volatile bool online[256];
volatile uint32_t received[256];

void on_ipi(Frame&) {
  const uint8_t id = lapic_id();
  received[id] = received[id] + 1;
  end_of_interrupt();
}

// What each started processor runs. Index and APIC id differ: they arrive in any order.
void processor(uint32_t) {
  load_idt();
  enable_lapic();
  enable_interrupts();
  online[lapic_id()] = true;
  while (true) asm volatile("hlt");
}

void expect_interrupt(uint8_t id, uint32_t count, const char* what) {
  if (wait_until([=] { return received[id] == count; })) return;
  print("processor ", id, " took ", received[id], " interrupts, expected ", count, '\n');
  fail(what);
}

}  // namespace

void payload_main(const Boot&) {
  set_up_interrupts();
  mask_legacy_pics();
  enable_lapic();
  enable_interrupts();
  for (const uint8_t vector : {kOne, kEverybodyElse, kMyself}) handle(vector, on_ipi);

  const uint64_t rsdp = find_rsdp();
  check(rsdp != 0, "the RSDP is found between 0xE0000 and 0xFFFFF");
  const Madt madt = read_madt(rsdp);
  print("processors ", madt.cpus, '\n');
  const uint8_t me = lapic_id();

  start_processors(madt, processor);
  for (unsigned i = 0; i < madt.cpus; ++i) {
    const uint8_t id = madt.apic_ids[i];
    if (id != me && !wait_until([=] { return online[id]; })) {
      print("apic id ", id, '\n');
      fail("the processor answers the start-up IPI");
    }
    print("apic id ", id, id == me ? " started us\n" : " online\n");
  }

  send_ipi(me, kIcrSelf | kIcrAssert | kMyself);
  expect_interrupt(me, 1, "an IPI to oneself");
  for (unsigned i = 0; i < madt.cpus; ++i) {
    const uint8_t id = madt.apic_ids[i];
    if (id == me) continue;
    send_ipi(id, kIcrFixed | kIcrAssert | kOne);
    expect_interrupt(id, 1, "a fixed IPI to one processor");
  }
  print("fixed: each was reached\n");

  send_ipi(0, kIcrAllButSelf | kIcrAssert | kEverybodyElse);
  for (unsigned i = 0; i < madt.cpus; ++i) {
    const uint8_t id = madt.apic_ids[i];
    if (id != me) expect_interrupt(id, 2, "a broadcast to all but oneself");
  }
  check(received[me] == 1, "the sender is left out of the broadcast");
  print("broadcast: all but the sender\n");
  pass();
}
