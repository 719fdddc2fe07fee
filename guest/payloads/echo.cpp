// SPDX-License-Identifier: Apache-2.0
// Lesson: how an access leaves the guest: port I/O of 1, 2 and 4 bytes, memory-mapped I/O of 1, 2, 4 and
// 8, and the string instructions that repeat them.
//
// Shows: a value written with one width and read with another comes back by the byte, and each
//   instruction reaches the device as one access of its own width (REP as one for each element), which
//   the device's counters prove.
// Manual: Intel SDM vol. 1, 19.3 "I/O Address Space"; vol. 2, INS/OUTS. The device is vmm's scratch
//   device (devices/legacy/scratch.h): 16 bytes of registers at ports 0xE00-0xE0F, a page of them at
//   0xFEA00000, counters at 0xFC0.
// See: one line for each kind of access, and the exit status 33.
#include "boot.h"
#include "console.h"
#include "io.h"

using namespace payload;

namespace {

constexpr uint16_t kPort = 0xE00;
constexpr uint64_t kPage = 0xFEA00000;

// Eight counters of 32 bits each: reads of 1, 2, 4, 8 bytes, then writes of 1, 2, 4, 8.
constexpr uint64_t kPortCounters = kPage + 0xFC0;
constexpr uint64_t kPageCounters = kPage + 0xFE0;
enum Counter { kRead1, kRead2, kRead4, kRead8, kWrite1, kWrite2, kWrite4, kWrite8 };

void clear_counters() {
  mmio_write<uint32_t>(kPortCounters, 0);
}  // any write clears all sixteen

void expect(uint64_t counters, Counter counter, uint32_t count, const char* what) {
  const auto found = mmio_read<uint32_t>(counters + 4u * counter);
  if (found == count) return;
  print("counted ", found, " accesses, expected ", count, '\n');
  fail(what);
}

void ports() {
  clear_counters();
  out32(kPort, 0x44332211);
  check(in8(kPort) == 0x11 && in8(kPort + 3) == 0x44, "bytes of a port written with OUTL");
  check(in16(kPort + 2) == 0x4433, "word of a port written with OUTL");
  out8(kPort + 1, 0xAA);
  out16(kPort + 2, 0xCCBB);
  check(in32(kPort) == 0xCCBBAA11, "INL after OUTB and OUTW");
  expect(kPortCounters, kRead1, 2, "INB is one access of 1 byte");
  expect(kPortCounters, kRead2, 1, "INW is one access of 2 bytes");
  expect(kPortCounters, kRead4, 1, "INL is one access of 4 bytes");
  expect(kPortCounters, kWrite1, 1, "OUTB is one access of 1 byte");
  expect(kPortCounters, kWrite2, 1, "OUTW is one access of 2 bytes");
  expect(kPortCounters, kWrite4, 1, "OUTL is one access of 4 bytes");
  print("ports: 1 2 4 bytes\n");
}

void strings() {
  static const uint8_t sent[32] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                   13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
  static uint8_t received[32];

  clear_counters();
  out_string8(kPort, sent, 24);
  check(in8(kPort) == 24, "REP OUTSB leaves its last byte");
  out_string16(kPort, sent, 12);
  check(in16(kPort) == 0x1817, "REP OUTSW leaves its last word");
  out_string32(kPort, sent, 6);
  check(in32(kPort) == 0x18171615, "REP OUTSL leaves its last double word");
  expect(kPortCounters, kWrite1, 24, "REP OUTSB of 24 is 24 accesses");
  expect(kPortCounters, kWrite2, 12, "REP OUTSW of 12 is 12 accesses");
  expect(kPortCounters, kWrite4, 6, "REP OUTSL of 6 is 6 accesses");

  clear_counters();
  in_string8(kPort, received, 5);
  check(received[0] == 0x15 && received[4] == 0x15 && received[5] == 0, "REP INSB fills 5 bytes");
  in_string16(kPort, received, 5);
  check(received[8] == 0x15 && received[9] == 0x16 && received[10] == 0, "REP INSW fills 10 bytes");
  in_string32(kPort, received, 5);
  check(received[16] == 0x15 && received[19] == 0x18 && received[20] == 0, "REP INSL fills 20 bytes");
  expect(kPortCounters, kRead1, 5, "REP INSB of 5 is 5 accesses");
  expect(kPortCounters, kRead2, 5, "REP INSW of 5 is 5 accesses");
  expect(kPortCounters, kRead4, 5, "REP INSL of 5 is 5 accesses");
  print("ports: REP OUTS and REP INS\n");
}

void memory() {
  clear_counters();
  mmio_write<uint64_t>(kPage, 0x8877665544332211);
  check(mmio_read<uint8_t>(kPage + 7) == 0x88, "byte of a register written with 8");
  check(mmio_read<uint16_t>(kPage + 2) == 0x4433, "word of a register written with 8");
  check(mmio_read<uint32_t>(kPage + 4) == 0x88776655, "double word of a register written with 8");
  mmio_write<uint8_t>(kPage + 1, 0xAA);
  mmio_write<uint16_t>(kPage + 2, 0xCCBB);
  mmio_write<uint32_t>(kPage + 4, 0xFFEEDDDD);
  check(mmio_read<uint64_t>(kPage) == 0xFFEEDDDDCCBBAA11, "8 bytes after 1, 2 and 4");
  check(mmio_read<uint32_t>(kPage + 1) == 0xDDCCBBAA, "an unaligned double word");
  expect(kPageCounters, kRead1, 1, "a load of 1 byte is one access");
  expect(kPageCounters, kRead2, 1, "a load of 2 bytes is one access");
  expect(kPageCounters, kRead8, 1, "a load of 8 bytes is one access");
  expect(kPageCounters, kWrite1, 1, "a store of 1 byte is one access");
  expect(kPageCounters, kWrite2, 1, "a store of 2 bytes is one access");
  expect(kPageCounters, kWrite4, 1, "a store of 4 bytes is one access");
  expect(kPageCounters, kWrite8, 1, "a store of 8 bytes is one access");
  print("memory: 1 2 4 8 bytes\n");
}

void memory_strings() {
  static const uint32_t sent[4] = {0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C};
  static uint32_t received[4];
  const void* from = sent;
  auto* to = reinterpret_cast<void*>(kPage + 0x100);
  size_t count = 4;
  asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
  from = reinterpret_cast<const void*>(kPage + 0x100);
  to = received;
  count = 4;
  asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
  for (int i = 0; i < 4; ++i) check(received[i] == sent[i], "REP MOVSL to the device and back");
  mmio_write<uint8_t>(kPage + 0xFBF, 0x5A);
  check(mmio_read<uint8_t>(kPage + 0xFBF) == 0x5A, "the last register before the counters");
  print("memory: REP MOVS\n");
}

void nothing_there() {
  // No device answers: reads are all ones, writes go nowhere, and the guest runs on.
  check(in8(0xEF0) == 0xFF && in16(0xEF0) == 0xFFFF && in32(0xEF0) == 0xFFFFFFFF,
        "an empty port reads all ones");
  out32(0xEF0, 0);
  check(mmio_read<uint64_t>(0xFEA80000) == ~uint64_t{0}, "empty address space reads all ones");
  mmio_write<uint64_t>(0xFEA80000, 0);
  print("nothing there: all ones\n");
}

}  // namespace

void payload_main(const Boot&) {
  ports();
  strings();
  memory();
  memory_strings();
  nothing_there();
  pass();
}
