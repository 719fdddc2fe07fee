// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/cmos_rtc.h"

#include <algorithm>
#include <ctime>
#include <utility>

namespace vmm::legacy {
namespace {

constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kDayOfWeek = 0x06;
constexpr uint8_t kDayOfMonth = 0x07;
constexpr uint8_t kMonth = 0x08;
constexpr uint8_t kYear = 0x09;
constexpr uint8_t kRegisterA = 0x0a;
constexpr uint8_t kRegisterB = 0x0b;
constexpr uint8_t kRegisterC = 0x0c;
constexpr uint8_t kRegisterD = 0x0d;
constexpr uint8_t kCentury = 0x32;

constexpr uint8_t kUpdateInProgress = 0x80;  // A
constexpr uint8_t kDivider = 0x26;           // A: 32.768 kHz, 1024 Hz
constexpr uint8_t kSet = 0x80;               // B: updates are held
constexpr uint8_t kBinary = 0x04;            // B, else BCD
constexpr uint8_t k24Hours = 0x02;           // B, else 12 with bit 7 for the afternoon
constexpr uint8_t kValid = 0x80;             // D: the battery is good

// UIP rises 244 us before an update, which takes 1984 us (table 5 of the data sheet).
constexpr std::chrono::microseconds kUpdateTime{244 + 1984};

using std::chrono::system_clock;

}  // namespace

CmosRtc::CmosRtc(uint64_t low_ram, uint64_t high_ram, Clock clock)
    : low_ram_(low_ram),
      high_ram_(high_ram),
      clock_(clock ? std::move(clock) : Clock{system_clock::now}),
      state_(power_on()) {}

CmosRtc::State CmosRtc::power_on() const {
  constexpr uint64_t kKiB = 1024;
  constexpr uint64_t k64KiB = 64 * kKiB;
  constexpr uint64_t kMiB = 1024 * kKiB;
  State state;
  auto& memory = state.memory;
  memory[kRegisterA] = kDivider;
  memory[kRegisterB] = k24Hours;
  const auto store16 = [&memory](size_t at, uint64_t value) {
    value = std::min<uint64_t>(value, 0xffff);
    memory[at] = static_cast<uint8_t>(value);
    memory[at + 1] = static_cast<uint8_t>(value >> 8);
  };
  const auto above = [this](uint64_t start) { return low_ram_ > start ? low_ram_ - start : 0; };
  store16(0x15, 640);                                                // KiB of conventional memory
  store16(0x17, std::min<uint64_t>(above(kMiB) / kKiB, 63 * kKiB));  // KiB above 1 MiB, up to 64 MiB
  store16(0x30, std::min<uint64_t>(above(kMiB) / kKiB, 63 * kKiB));  // the same, as POST found it
  store16(0x34, above(16 * kMiB) / k64KiB);                          // 64 KiB above 16 MiB, below 4 GiB
  const uint64_t high = high_ram_ / k64KiB;                          // 64 KiB above 4 GiB
  store16(0x5b, high & 0xffff);
  memory[0x5d] = static_cast<uint8_t>(high >> 16);
  return state;
}

void CmosRtc::reset() {
  const std::lock_guard lock(mutex_);
  state_ = power_on();
}

void CmosRtc::read(uint64_t offset, std::span<std::byte> out) {
  const std::lock_guard lock(mutex_);
  for (std::byte& byte : out) {
    if (offset++ == 1) byte = std::byte{read_data()};  // the index port is write-only
  }
}

void CmosRtc::write(uint64_t offset, std::span<const std::byte> in) {
  const std::lock_guard lock(mutex_);
  for (const std::byte byte : in) {
    const auto value = std::to_integer<uint8_t>(byte);
    if (offset++ == 0) {
      state_.index = value & 0x7f;
    } else {
      write_data(value);
    }
  }
}

uint8_t CmosRtc::read_data() const {
  const uint8_t stored = state_.memory[state_.index];
  switch (state_.index) {
    case kSeconds:
    case kMinutes:
    case kHours:
    case kDayOfWeek:
    case kDayOfMonth:
    case kMonth:
    case kYear:
    case kCentury:
      return time_register(state_.index);
    case kRegisterA:
      return static_cast<uint8_t>(stored | (update_in_progress() ? kUpdateInProgress : 0));
    case kRegisterC:
      return 0;
    case kRegisterD:
      return kValid;
    default:
      return stored;
  }
}

void CmosRtc::write_data(uint8_t value) {
  if (state_.index == kRegisterA) value &= static_cast<uint8_t>(~kUpdateInProgress);
  if (state_.index == kRegisterB) value &= kSet | kBinary | k24Hours;
  state_.memory[state_.index] = value;
}

bool CmosRtc::update_in_progress() const {
  if ((state_.memory[kRegisterB] & kSet) != 0) return false;
  const auto now = clock_();
  const auto next = std::chrono::floor<std::chrono::seconds>(now) + std::chrono::seconds{1};
  return next - now <= kUpdateTime;
}

uint8_t CmosRtc::encode(int value) const {
  const bool binary = (state_.memory[kRegisterB] & kBinary) != 0;
  return static_cast<uint8_t>(binary ? value : value / 10 * 16 + value % 10);
}

uint8_t CmosRtc::time_register(uint8_t index) const {
  const std::time_t now = system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(clock_()));
  std::tm utc{};
  if (::gmtime_r(&now, &utc) == nullptr) return 0;
  const int year = utc.tm_year + 1900;
  switch (index) {
    case kSeconds:
      return encode(utc.tm_sec);
    case kMinutes:
      return encode(utc.tm_min);
    case kHours: {
      if ((state_.memory[kRegisterB] & k24Hours) != 0) return encode(utc.tm_hour);
      const int hour = utc.tm_hour % 12 == 0 ? 12 : utc.tm_hour % 12;
      return static_cast<uint8_t>(encode(hour) | (utc.tm_hour >= 12 ? 0x80 : 0));
    }
    case kDayOfWeek:
      return encode(utc.tm_wday + 1);
    case kDayOfMonth:
      return encode(utc.tm_mday);
    case kMonth:
      return encode(utc.tm_mon + 1);
    case kYear:
      return encode(year % 100);
    default:
      return encode(year / 100);
  }
}

}  // namespace vmm::legacy
