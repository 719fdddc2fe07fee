// SPDX-License-Identifier: Apache-2.0
// Lesson: the debug ports, by which a guest talks to whoever tests it.
//
// Shows: a read of port 0xE9 answers 0xE9 where a debug console listens; a byte v written to port 0xF4
//   ends the run with the status (v << 1) | 1.
// Manual: none; the two ports are a convention of emulators (Bochs' port E9 hack, QEMU's isa-debugcon and
//   isa-debug-exit).
// See: a line on the debug console, a line on the serial port, and the exit status 43 (value 21).
#include "boot.h"
#include "console.h"
#include "io.h"

using namespace payload;

void payload_main(const Boot&) {
  check(in8(kDebugConsole) == 0xE9, "port 0xE9 reads as 0xE9");
  print("debug console on port 0xe9\n");
  constexpr uint16_t kCom1 = 0x3F8;
  for (const char* text = "serial port on 0x3f8\n"; *text != '\0'; ++text)
    out8(kCom1, static_cast<uint8_t>(*text));
  exit(21);
}
