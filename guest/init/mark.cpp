// SPDX-License-Identifier: Apache-2.0
//
// mark N [PROGRAM [ARGUMENT…]]: writes the byte N (decimal, or 0x…) to the marker port, then becomes PROGRAM.
//
// Under the name "init" it marks 0x02 and becomes /sbin/init.real: an image that puts it in the place of its
// init tells when its first process started, whatever kernel and initramfs brought it up.
#include "guest/init/mark.h"

#include "guest/init/runtime.h"
#include "guest/init/text.h"

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
    if (c >= '0' && c <= '9')
      value = value * (hex ? 16 : 10) + (c - '0');
    else if (hex && c >= 'a' && c <= 'f')
      value = value * 16 + (c - 'a' + 10);
    else if (hex && c >= 'A' && c <= 'F')
      value = value * 16 + (c - 'A' + 10);
    else
      return -1;
  }
  return value <= 255 ? value : -1;
}

bool called_init(Text name) {
  while (name.find('/') < name.size) name = name.drop(name.find('/') + 1);
  return name == "init";
}

}  // namespace

int run(int argc, char** argv, char** envp) {
  char digits[24];
  if (argc >= 1 && called_init(argv[0])) {
    mark(Mark::init);
    const long error = sys::execve("/sbin/init.real", argv, envp);
    say("init: run /sbin/init.real: error ", decimal(-error, digits));
    return 127;
  }
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
  const long error = sys::execve(argv[2], argv + 2, envp);
  say("mark: run ", static_cast<const char*>(argv[2]), ": error ", decimal(-error, digits));
  return 127;
}

}  // namespace guest
