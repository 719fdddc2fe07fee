// SPDX-License-Identifier: Apache-2.0
// Lesson: what a machine has, seen from its port space: a port that nobody decodes reads as all ones.
//
// Shows: the first 4,096 of the 65,536 ports, where a PC's fixed devices are, each read once as a byte;
//   those that answer, in ranges.
// Manual: Intel SDM vol. 1, 19.1 "I/O Port Addressing"; which device is where: vmm/machine/layout.h.
// See: the ranges that answer, and the exit status 33. A guest may do this to any machine, and nothing
//   comes of it: that is the test.
#include "boot.h"
#include "console.h"
#include "io.h"

using namespace payload;

void payload_main(const Boot&) {
  constexpr uint32_t kEnd = 0x1000;
  uint32_t answering = 0;
  uint32_t start = 0;
  bool inside = false;
  for (uint32_t port = 0; port <= kEnd; ++port) {
    const bool answers = port < kEnd && in8(static_cast<uint16_t>(port)) != 0xFF;
    if (answers) ++answering;
    if (answers && !inside) start = port;
    if (!answers && inside) {
      print(Hex{start});
      if (port - 1 != start) print("-", Hex{port - 1});
      print('\n');
    }
    inside = answers;
  }
  print("ports that answer: ", answering, '\n');
  check(in8(kDebugConsole) == 0xE9, "the debug console is among them");
  check(answering < kEnd / 4, "most of the port space is empty");
  pass();
}
