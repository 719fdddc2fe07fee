// SPDX-License-Identifier: Apache-2.0
//
// Strings without a C library: a counted view, a bounded buffer, and printing on the console (standard
// error).
#pragma once

#include "guest/init/sys.h"

namespace guest {

struct Text {
  const char* data = nullptr;
  size_t size = 0;

  constexpr Text() = default;
  constexpr Text(const char* start, size_t length) : data(start), size(length) {}
  constexpr Text(const char* zero_terminated) : data(zero_terminated) {  // NOLINT: implicit by intent
    while (data != nullptr && data[size] != '\0') ++size;
  }

  constexpr bool empty() const { return size == 0; }
  constexpr char operator[](size_t index) const { return data[index]; }
  constexpr Text drop(size_t count) const { return {data + count, size - count}; }
  constexpr Text first(size_t count) const { return {data, count}; }
  constexpr bool operator==(const Text& other) const {
    if (size != other.size) return false;
    for (size_t i = 0; i < size; ++i)
      if (data[i] != other.data[i]) return false;
    return true;
  }
  constexpr bool starts_with(const Text& prefix) const {
    return size >= prefix.size && first(prefix.size) == prefix;
  }
  // Position of the first `wanted`, or size.
  constexpr size_t find(char wanted) const {
    size_t i = 0;
    while (i < size && data[i] != wanted) ++i;
    return i;
  }
};

// Splits off and returns everything before the first `separator`; `rest` keeps what follows it.
constexpr Text take_until(Text& rest, char separator) {
  const size_t at = rest.find(separator);
  const Text head = rest.first(at);
  rest = at < rest.size ? rest.drop(at + 1) : Text{};
  return head;
}

// Decimal number at the start of `text`; 0 where there is none, saturating at a day of seconds.
constexpr uint32_t number(Text text) {
  uint32_t value = 0;
  for (size_t i = 0; i < text.size && text[i] >= '0' && text[i] <= '9'; ++i)
    if (value < 86400) value = value * 10 + static_cast<uint32_t>(text[i] - '0');
  return value;
}

// The value of "0x…"; what follows the digits does not matter.
constexpr uint32_t hexadecimal(Text text) {
  uint32_t value = 0;
  for (size_t i = text.starts_with("0x") ? 2 : 0; i < text.size; ++i) {
    const char c = text[i];
    if (c >= '0' && c <= '9')
      value = value << 4 | static_cast<uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      value = value << 4 | static_cast<uint32_t>(c - 'a' + 10);
    else
      break;
  }
  return value;
}

// A zero-terminated string of bounded length. What does not fit is dropped, and `whole` says so.
template <size_t Capacity>
class Buffer {
 public:
  Buffer() { bytes_[0] = '\0'; }
  template <typename... Parts>
  explicit Buffer(Parts... parts) : Buffer() {
    (add(Text{parts}), ...);
  }
  Buffer& add(Text text) {
    for (size_t i = 0; i < text.size; ++i) {
      if (size_ + 1 >= Capacity) {
        whole_ = false;
        break;
      }
      bytes_[size_++] = text[i];
    }
    bytes_[size_] = '\0';
    return *this;
  }
  const char* c_str() const { return bytes_; }
  char* data() { return bytes_; }
  Text text() const { return {bytes_, size_}; }
  bool empty() const { return size_ == 0; }
  bool whole() const { return whole_; }

 private:
  char bytes_[Capacity];
  size_t size_ = 0;
  bool whole_ = true;
};

using Path = Buffer<256>;

inline Text decimal(long value, char (&digits)[24]) {
  size_t at = sizeof digits;
  const bool negative = value < 0;
  unsigned long rest = negative ? 0UL - static_cast<unsigned long>(value) : static_cast<unsigned long>(value);
  do digits[--at] = static_cast<char>('0' + rest % 10);
  while ((rest /= 10) != 0);
  if (negative) digits[--at] = '-';
  return {digits + at, sizeof digits - at};
}

// One write for the line: on a serial console each call is seen, and lines of others do not cut in.
template <typename... Parts>
void say(Parts... parts) {
  Buffer<512> line;
  (line.add(Text{parts}), ...);
  line.add("\n");
  sys::write(2, line.c_str(), line.text().size);
}

// Reads a whole small file. Empty where it cannot be read.
template <size_t Capacity>
Text read_file(const char* path, char (&into)[Capacity]) {
  const long fd = sys::open(path, sys::kReadOnly);
  if (fd < 0) return {};
  size_t size = 0;
  while (size < Capacity) {
    const long got = sys::read(fd, into + size, Capacity - size);
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  sys::close(fd);
  return {into, size};
}

}  // namespace guest
