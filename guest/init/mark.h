// SPDX-License-Identifier: Apache-2.0
//
// Marks a point in time for whoever runs this guest: one byte written to I/O port 0x3F0.
//
// By ioperm(), as Debian's cloud kernel has no /dev/port (CONFIG_DEVPORT=n); by /dev/port where a kernel was
// built without ioperm(). Where both are refused (no CAP_SYS_RAWIO, lockdown) or nothing listens, nothing
// happens.
#pragma once

#include "guest/init/sys.h"

namespace guest {

inline constexpr uint16_t kMarkPort = 0x3f0;

enum class Mark : uint8_t {
  initramfs = 0x01,  // first instruction of user space
  init = 0x02,       // the first process on the real root is about to run
  ready = 0x03,      // services are up, a login is offered
};

inline bool mark(uint8_t value) {
  if (sys::call(__NR_ioperm, kMarkPort, 1, 1) < 0) {
    const long fd = sys::open("/dev/port", sys::kWriteOnly);
    const bool written = fd >= 0 && sys::pwrite(fd, &value, 1, kMarkPort) == 1;
    if (fd >= 0) sys::close(fd);
    return written;
  }
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(kMarkPort));
  // Given back at once: a task with port permissions costs an I/O bitmap copy at each switch to it.
  sys::call(__NR_ioperm, kMarkPort, 1, 0);
  return true;
}
inline bool mark(Mark value) {
  return mark(static_cast<uint8_t>(value));
}

}  // namespace guest
