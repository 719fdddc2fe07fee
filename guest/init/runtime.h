// SPDX-License-Identifier: Apache-2.0
//
// What a freestanding program must bring: an entry point, and the two functions that compilers call unasked
// (GCC manual, "Standards": a freestanding environment provides memcpy, memmove, memset and memcmp).
// Included once, by the file that holds run().
#pragma once

#include "guest/init/sys.h"

namespace guest {
// The program. Its result is the exit status.
int run(int argc, char** argv, char** envp);
}  // namespace guest

extern "C" {

__attribute__((used)) void* memcpy(void* to, const void* from, size_t size) {
  void* result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}

__attribute__((used)) void* memset(void* to, int value, size_t size) {
  void* result = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
  return result;
}

// The kernel enters with argc, argv…, 0, envp…, 0 on the stack (System V ABI for x86-64, 3.4.1).
[[noreturn]] __attribute__((used)) void start_on_stack(long* stack) {
  const int argc = static_cast<int>(stack[0]);
  char** argv = reinterpret_cast<char**>(stack + 1);
  guest::sys::exit(guest::run(argc, argv, argv + argc + 1));
}

}  // extern "C"

asm(R"(
  .globl _start
  .type _start, @function
_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  and $-16, %rsp
  call start_on_stack
)");
