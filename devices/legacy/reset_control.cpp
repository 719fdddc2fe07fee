// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/reset_control.h"

namespace vmm::legacy {
namespace {

constexpr uint8_t kSystemReset = 0x02;
constexpr uint8_t kResetCpu = 0x04;  // the edge that acts
constexpr uint8_t kFullReset = 0x08;

}  // namespace

void ResetControl::read(uint64_t /*offset*/, std::span<std::byte> out) {
  if (!out.empty()) out[0] = std::byte{value_.load()};
}

void ResetControl::write(uint64_t /*offset*/, std::span<const std::byte> in) {
  if (in.empty()) return;
  const auto value = std::to_integer<uint8_t>(in[0]);
  value_ = value & (kSystemReset | kFullReset);
  if ((value & kResetCpu) != 0) power_.request(PowerEvent::reset, "reset register 0xcf9");
}

}  // namespace vmm::legacy
