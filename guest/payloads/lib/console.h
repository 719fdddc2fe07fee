// SPDX-License-Identifier: Apache-2.0
// What a payload says and how it ends: text on the debug console (port 0xE9), a verdict on the debug exit
// port (0xF4).
//
// The exit port turns the byte v into the emulator's exit status (v << 1) | 1, so pass() ends the run with 33
// and fail() with 35: neither can be mistaken for the emulator's own exit codes.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace payload {

constexpr uint16_t kDebugConsole = 0xE9;
constexpr uint16_t kDebugExit = 0xF4;
constexpr uint8_t kPass = 0x10;
constexpr uint8_t kFail = 0x11;

struct Hex {
  uint64_t value;
};

void put(char c);
void put(const char* text);
void put(uint64_t decimal);
void put(Hex hex);
inline void put(uint32_t decimal) {
  put(uint64_t{decimal});
}
inline void put(int decimal) {
  put(static_cast<uint64_t>(decimal));
}

// print("cpu ", 3, " at ", Hex{address}, '\n')
template <class... Parts>
void print(Parts... parts) {
  (put(parts), ...);
}

[[noreturn]] void exit(uint8_t value);
[[noreturn]] void pass();
[[noreturn]] void fail(const char* why);

// Ends the run unless `holds`; `what` is printed as the thing that did not hold.
inline void check(bool holds, const char* what) {
  if (!holds) fail(what);
}

bool equal(const char* left, const char* right);
// The text after `word` in `text`, or null: enough to find an option on a command line.
const char* find(const char* text, const char* word);

}  // namespace payload
