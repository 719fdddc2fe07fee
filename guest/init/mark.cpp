// SPDX-License-Identifier: Apache-2.0
//
// mark N [PROGRAM [ARGUMENT…]]: writes the byte N (decimal, or 0x…) to the marker port, then becomes PROGRAM.
// As the image's /sbin/init it marks the start of the real root's first process at no cost of a fork.
#include "mark.h"

#include "runtime.h"
#include "text.h"

namespace guest {
namespace {

// 0..255, or -1.
int byte_of(Text text) {
  int value = 0;
  const bool hex = text.starts_with("0x");
  if (hex) text = text.drop(2);
  if (text.empty() || text.size > 3) return -1;
  for (size_t i = 0; i < text.size; ++i) {
    const char c = text[i];
    if (c >= '0' && c <= '9') value = value * (hex ? 16 : 10) + (c - '0');
    else if (hex && c >= 'a' && c <= 'f') value = value * 16 + (c - 'a' + 10);
    else if (hex && c >= 'A' && c <= 'F') value = value * 16 + (c - 'A' + 10);
    else return -1;
  }
  return value <= 255 ? value : -1;
}

}  // namespace

int run(int argc, char** argv, char** envp) {
  const int value = argc >= 2 ? byte_of(argv[1]) : -1;
  if (value < 0) {
    say("usage: mark N [PROGRAM [ARGUMENT...]]   write byte N (0..255, 0x00..0xff) to the marker port 0x3f0");
    return 2;
  }
  const bool marked = mark(static_cast<uint8_t>(value));
  if (argc == 2) {
    if (!marked) say("mark: no permission for port 0x3f0: it takes root (CAP_SYS_RAWIO) and no lockdown");
    return marked ? 0 : 1;
  }
  char digits[24];
  const long error = sys::execve(argv[2], argv + 2, envp);
  say("mark: run ", static_cast<const char*>(argv[2]), ": error ", decimal(-error, digits));
  return 127;
}

}  // namespace guest
