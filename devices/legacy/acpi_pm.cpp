// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/acpi_pm.h"

#include <utility>

namespace vmm::legacy {
namespace {

constexpr uint64_t kStatus = 0;
constexpr uint64_t kEnable = 2;
constexpr uint64_t kControl = 4;
constexpr uint64_t kTimer = 8;

constexpr uint16_t kPowerButton = 0x0100;
// TMR, GBL, PWRBTN, SLPBTN and RTC: ACPI's reference code checks that an enable bit stays as it was written.
constexpr uint16_t kEnableKept = 0x0721;

constexpr uint16_t kSciEnabled = 0x0001;
constexpr uint16_t kSleepType = 0x1c00;
constexpr int kSleepTypeShift = 10;
constexpr uint16_t kSleepEnable = 0x2000;

std::chrono::nanoseconds monotonic() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

uint8_t byte_of(uint32_t value, uint64_t index) {
  return static_cast<uint8_t>(value >> (8 * index));
}

void set_byte(uint16_t& value, uint64_t index, uint8_t byte) {
  const auto shift = static_cast<int>(8 * index);
  value = static_cast<uint16_t>((value & ~(0xff << shift)) | (byte << shift));
}

}  // namespace

AcpiPm::AcpiPm(IrqLine& sci, PowerSink& power, Clock clock)
    : sci_(sci), power_(power), clock_(clock ? std::move(clock) : Clock{monotonic}) {}

uint32_t AcpiPm::timer_ticks(std::chrono::nanoseconds time) {
  constexpr uint64_t kHertz = 3'579'545;
  constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
  const auto total = static_cast<uint64_t>(time.count());
  // In two parts: the product with a whole uptime in nanoseconds would not fit.
  const uint64_t seconds = total / kNanosecondsPerSecond;
  const uint64_t rest = total % kNanosecondsPerSecond;
  return static_cast<uint32_t>(seconds * kHertz + rest * kHertz / kNanosecondsPerSecond);
}

void AcpiPm::read(uint64_t offset, std::span<std::byte> out) {
  const uint32_t timer = timer_ticks(clock_());
  const std::lock_guard lock(mutex_);
  for (std::byte& byte : out) byte = std::byte{read_register(offset++, timer)};
}

uint8_t AcpiPm::read_register(uint64_t offset, uint32_t timer) const {
  if (offset >= kTimer) return offset < kPorts ? byte_of(timer, offset - kTimer) : 0;
  if (offset >= kControl + 2) return 0;
  if (offset >= kControl) return byte_of(state_.control | kSciEnabled, offset - kControl);
  if (offset >= kEnable) return byte_of(state_.enable, offset - kEnable);
  return byte_of(state_.status, offset - kStatus);
}

void AcpiPm::write(uint64_t offset, std::span<const std::byte> in) {
  bool power_off = false;
  {
    const std::lock_guard lock(mutex_);
    for (const std::byte byte : in) {
      if (write_register(offset++, std::to_integer<uint8_t>(byte))) power_off = true;
    }
    update_interrupt();
  }
  if (power_off) power_.request(PowerEvent::power_off, "ACPI S5");
}

bool AcpiPm::write_register(uint64_t offset, uint8_t value) {
  if (offset < kEnable) {  // ones clear
    uint16_t ones = 0;
    set_byte(ones, offset - kStatus, value);
    state_.status &= static_cast<uint16_t>(~ones);
    return false;
  }
  if (offset < kControl) {
    set_byte(state_.enable, offset - kEnable, value);
    state_.enable &= kEnableKept;
    return false;
  }
  if (offset >= kControl + 2) return false;
  uint16_t control = state_.control;
  set_byte(control, offset - kControl, value);
  state_.control = control & kSleepType;
  // SLP_EN reads as zero, so it is set here only if this byte brought it.
  return (control & kSleepEnable) != 0 && (control & kSleepType) >> kSleepTypeShift == kSleepTypeS5;
}

bool AcpiPm::press_power_button() {
  const std::lock_guard lock(mutex_);
  state_.status |= kPowerButton;
  update_interrupt();
  return (state_.enable & kPowerButton) != 0;
}

void AcpiPm::reset() {
  const std::lock_guard lock(mutex_);
  state_ = State{};
  update_interrupt();
}

void AcpiPm::update_interrupt() {
  const bool level = (state_.status & state_.enable) != 0;
  if (level == level_) return;
  level_ = level;
  sci_.set(level);
}

}  // namespace vmm::legacy
