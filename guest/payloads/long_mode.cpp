// SPDX-License-Identifier: Apache-2.0
// Lesson: long mode and its page tables.
//
// Shows: the bits that say "64-bit", a 4-level table built by hand that gives one page of memory a second
//   address far above 4 GiB, and a page fault that is repaired and resumed, which is how demand paging
//   works.
// Manual: Intel SDM vol. 3, 4.5 "4-Level Paging" and 6.15 "Page-Fault Exception (#PF)"; AMD APM vol. 2,
//   5.3 "Long-Mode Page Translation". The switch into long mode itself is in lib/long_mode.S.
// See: what each step found, and the exit status 33.
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "multiboot.h"

using namespace payload;

namespace {

constexpr uint64_t kPresentWritable = 3;
// Entry 2, 3, 4, 5 of the four levels, so that each index shows in the address: 2<<39 | 3<<30 | 4<<21 |
// 5<<12.
constexpr uint64_t kAlias =
    (uint64_t{2} << 39) | (uint64_t{3} << 30) | (uint64_t{4} << 21) | (uint64_t{5} << 12);
constexpr uint64_t kUnmapped = kAlias + 0x1000;

struct alignas(4096) Table {
  uint64_t entry[512];
};
Table level3, level2, level1;
alignas(4096) volatile uint64_t page[512];

uint64_t address_of(volatile void* object) {
  return reinterpret_cast<uint64_t>(object);
}

volatile uint64_t& word_at(uint64_t address) {
  return *reinterpret_cast<volatile uint64_t*>(address);
}

unsigned faults = 0;
uint64_t fault_address = 0;
uint64_t fault_error = 0;

void on_page_fault(Frame& frame) {
  ++faults;
  fault_address = read_cr2();
  fault_error = frame.error;
  check(faults == 1, "the repaired access does not fault again");
  level1.entry[6] = address_of(page) | kPresentWritable;  // returning runs the instruction once more
}

}  // namespace

void payload_main(const Boot& boot) {
  check(boot.magic == kMultibootMagic, "EAX has the Multiboot magic");
  constexpr uint64_t kPaging = uint64_t{1} << 31, kPae = 1u << 5;
  constexpr uint32_t kEfer = 0xC0000080, kEferActive = 1u << 10;
  check((read_cr0() & kPaging) != 0, "CR0.PG");
  check((read_cr4() & kPae) != 0, "CR4.PAE");
  check((rdmsr(kEfer) & kEferActive) != 0, "EFER.LMA");
  print("long mode: CR0.PG CR4.PAE EFER.LMA\n");

  auto& level4 = *reinterpret_cast<Table*>(read_cr3() & ~uint64_t{0xFFF});
  level4.entry[2] = address_of(&level3) | kPresentWritable;
  level3.entry[3] = address_of(&level2) | kPresentWritable;
  level2.entry[4] = address_of(&level1) | kPresentWritable;
  level1.entry[5] = address_of(page) | kPresentWritable;
  word_at(kAlias + 8) = 0x0123456789ABCDEF;
  check(page[1] == 0x0123456789ABCDEF, "a store by one address is read by the other");
  print("one page at ", Hex{kAlias}, " and at its own address\n");

  constexpr uint64_t kAccessed = 1u << 5, kDirty = 1u << 6;
  check((level1.entry[5] & (kAccessed | kDirty)) == (kAccessed | kDirty),
        "the processor sets accessed and dirty");
  print("accessed and dirty bits set\n");

  set_up_interrupts();
  handle(14, on_page_fault);
  word_at(kUnmapped + 16) = 42;
  check(faults == 1 && fault_address == kUnmapped + 16, "the store faults once, CR2 says where");
  check(fault_error == 2, "error code: not present, write, supervisor");
  check(page[2] == 42, "the store took effect after the repair");
  print("page fault at ", Hex{fault_address}, " error ", fault_error, " repaired\n");
  pass();
}
