// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/pvpanic.h"

namespace vmm::legacy {
namespace {

constexpr uint8_t kPanicked = 0x01;
constexpr uint8_t kCrashLoaded = 0x02;  // panicked, and a crash kernel goes on from there

}  // namespace

void Pvpanic::read(uint64_t /*offset*/, std::span<std::byte> out) {
  if (!out.empty()) out[0] = std::byte{kPanicked | kCrashLoaded};
}

void Pvpanic::write(uint64_t /*offset*/, std::span<const std::byte> in) {
  if (in.empty()) return;
  const auto events = std::to_integer<uint8_t>(in[0]);
  if ((events & kCrashLoaded) != 0 && crash_loaded_.pass()) {
    log(LogLevel::warning, "pvpanic: the guest panicked, its crash kernel takes over");
  }
  if ((events & kPanicked) != 0) power_.request(PowerEvent::guest_panic, "pvpanic");
}

}  // namespace vmm::legacy
