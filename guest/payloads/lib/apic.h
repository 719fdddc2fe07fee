// SPDX-License-Identifier: Apache-2.0
// Local APIC in xAPIC mode (Intel SDM vol. 3, chapter 10) and I/O APIC (82093AA data sheet, section 3).
#pragma once

#include <stdint.h>

#include "cpu.h"
#include "io.h"

namespace payload {

constexpr uint64_t kLapicBase = 0xFEE00000;

enum class Lapic : uint64_t {
  id = 0x20,
  version = 0x30,
  eoi = 0xB0,
  spurious = 0xF0,
  icr_low = 0x300,
  icr_high = 0x310,
  lvt_timer = 0x320,
  timer_initial = 0x380,
  timer_current = 0x390,
  timer_divide = 0x3E0,
};

// Interrupt command register, SDM figure 10-12.
enum Icr : uint32_t {
  kIcrFixed = 0,
  kIcrInit = 5u << 8,
  kIcrStartup = 6u << 8,
  kIcrPending = 1u << 12,
  kIcrAssert = 1u << 14,
  kIcrSelf = 1u << 18,
  kIcrAll = 2u << 18,
  kIcrAllButSelf = 3u << 18,
};

enum LvtTimer : uint32_t {
  kTimerOneShot = 0,
  kTimerPeriodic = 1u << 17,
  kTimerDeadline = 2u << 17,
  kLvtMasked = 1u << 16,
};
constexpr uint32_t kMsrTscDeadline = 0x6E0;

constexpr uint8_t kSpuriousVector = 0x3F;

inline uint32_t lapic_read(Lapic reg) {
  return mmio_read<uint32_t>(kLapicBase + static_cast<uint64_t>(reg));
}
inline void lapic_write(Lapic reg, uint32_t value) {
  mmio_write<uint32_t>(kLapicBase + static_cast<uint64_t>(reg), value);
}
inline uint8_t lapic_id() {
  return static_cast<uint8_t>(lapic_read(Lapic::id) >> 24);
}
inline void end_of_interrupt() {
  lapic_write(Lapic::eoi, 0);
}
// Software-enable (SDM 10.4.7.2). After reset the local APIC takes no fixed interrupts.
inline void enable_lapic() {
  lapic_write(Lapic::spurious, 0x100 | kSpuriousVector);
}

inline void send_ipi(uint8_t destination, uint32_t command) {
  wait_until([] { return (lapic_read(Lapic::icr_low) & kIcrPending) == 0; });
  lapic_write(Lapic::icr_high, uint32_t{destination} << 24);
  lapic_write(Lapic::icr_low, command);
}

// The redirection entry of an I/O APIC input, 82093AA 3.2.4.
enum Redirection : uint32_t {
  kRedirectEdge = 0,
  kRedirectLevel = 1u << 15,
  kRedirectActiveLow = 1u << 13,
  kRedirectMasked = 1u << 16,
  kRedirectRemoteIrr = 1u << 14,
};

class IoApic {
 public:
  explicit IoApic(uint64_t base) : base_{base} {}
  uint32_t read(uint8_t index) const {
    mmio_write<uint32_t>(base_, index);
    return mmio_read<uint32_t>(base_ + 0x10);
  }
  void write(uint8_t index, uint32_t value) const {
    mmio_write<uint32_t>(base_, index);
    mmio_write<uint32_t>(base_ + 0x10, value);
  }
  unsigned inputs() const { return ((read(1) >> 16) & 0xFF) + 1; }
  // Delivers `input` as `vector`, fixed, to the processor `destination`.
  void route(unsigned input, uint8_t vector, uint8_t destination, uint32_t flags) const {
    write(static_cast<uint8_t>(0x11 + 2 * input), uint32_t{destination} << 24);
    write(static_cast<uint8_t>(0x10 + 2 * input), flags | vector);
  }
  void mask(unsigned input) const { write(static_cast<uint8_t>(0x10 + 2 * input), kRedirectMasked); }

 private:
  uint64_t base_;
};

// The two 8259s would deliver the same lines a second time; a machine without them ignores the writes.
inline void mask_legacy_pics() {
  out8(0x21, 0xFF);
  out8(0xA1, 0xFF);
}

}  // namespace payload
