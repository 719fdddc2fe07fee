// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include "io.h"

namespace payload {

void put(char c) {
  out8(kDebugConsole, static_cast<uint8_t>(c));
}

void put(const char* text) {
  while (*text != '\0') put(*text++);
}

void put(uint64_t decimal) {
  char digits[20];
  size_t n = 0;
  do {
    digits[n++] = static_cast<char>('0' + decimal % 10);
    decimal /= 10;
  } while (decimal != 0);
  while (n > 0) put(digits[--n]);
}

void put(Hex hex) {
  put("0x");
  int shift = 60;
  while (shift > 0 && (hex.value >> shift) == 0) shift -= 4;
  for (; shift >= 0; shift -= 4) put("0123456789abcdef"[(hex.value >> shift) & 0xF]);
}

void exit(uint8_t value) {
  out8(kDebugExit, value);
  // Where nothing listens on the port the payload has to stop by itself.
  while (true) asm volatile("cli; hlt");
}

void pass() {
  put("PASS\n");
  exit(kPass);
}

void fail(const char* why) {
  print("FAIL: ", why, '\n');
  exit(kFail);
}

bool equal(const char* left, const char* right) {
  while (*left != '\0' && *left == *right) {
    ++left;
    ++right;
  }
  return *left == *right;
}

const char* find(const char* text, const char* word) {
  for (; *text != '\0'; ++text) {
    const char* t = text;
    const char* w = word;
    while (*w != '\0' && *t == *w) {
      ++t;
      ++w;
    }
    if (*w == '\0') return t;
  }
  return nullptr;
}

}  // namespace payload

// The compiler may call these for copies and zeroing it chooses not to inline, even in freestanding code.
extern "C" {
void* memcpy(void* to, const void* from, size_t size) {
  void* const result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}
void* memset(void* to, int value, size_t size) {
  void* const result = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
  return result;
}
int memcmp(const void* left, const void* right, size_t size) {
  const auto* l = static_cast<const unsigned char*>(left);
  const auto* r = static_cast<const unsigned char*>(right);
  for (size_t i = 0; i < size; ++i) {
    if (l[i] != r[i]) return l[i] < r[i] ? -1 : 1;
  }
  return 0;
}
}
