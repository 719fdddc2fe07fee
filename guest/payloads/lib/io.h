// SPDX-License-Identifier: Apache-2.0
// Port and memory-mapped I/O, one instruction each, so that a payload decides exactly which access leaves the
// guest. Intel SDM vol. 1, ch. 19 "Input/Output"; the string forms are SDM vol. 2, INS and OUTS.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace payload {

inline void out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline void out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

inline uint8_t in8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint16_t in16(uint16_t port) {
  uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint32_t in32(uint16_t port) {
  uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

// REP OUTS and REP INS: `count` elements through one port, by one instruction.
inline void out_string8(uint16_t port, const void* from, size_t count) {
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}
inline void out_string16(uint16_t port, const void* from, size_t count) {
  asm volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}
inline void out_string32(uint16_t port, const void* from, size_t count) {
  asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}
inline void in_string8(uint16_t port, void* to, size_t count) {
  asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}
inline void in_string16(uint16_t port, void* to, size_t count) {
  asm volatile("rep insw" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}
inline void in_string32(uint16_t port, void* to, size_t count) {
  asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}

// MMIO of exactly sizeof(T) bytes. Plain MOV, because that is the form every instruction emulator decodes.
template <class T>
T mmio_read(uint64_t address) {
  return *reinterpret_cast<volatile T*>(address);
}
template <class T>
void mmio_write(uint64_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}

}  // namespace payload
