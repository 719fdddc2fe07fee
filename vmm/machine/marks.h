// SPDX-License-Identifier: Apache-2.0
//
// Named points in time: the bytes that a guest writes to the marker port (layout::kMarker).
#pragma once

#include <cstdint>
#include <string>

#include <fmt/core.h>

namespace vmm {

inline constexpr uint8_t kMarkInitramfs = 0x01;  // the initramfs runs
inline constexpr uint8_t kMarkInit = 0x02;       // the first process on the real root
inline constexpr uint8_t kMarkReady = 0x03;      // login prompt, services up

[[nodiscard]] inline std::string mark_name(uint8_t mark) {
  switch (mark) {
    case kMarkInitramfs:
      return "initramfs";
    case kMarkInit:
      return "init";
    case kMarkReady:
      return "ready";
    default:
      return fmt::format("mark-{:#04x}", mark);
  }
}

}  // namespace vmm
