// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/core/result.h"

namespace vmm::backend {

// An Ethernet address (IEEE 802-2014, 8).
struct MacAddress {
  std::array<uint8_t, 6> bytes{};

  // "52:54:00:12:34:56"; of one station, so neither a group address nor all zeroes.
  static Result<MacAddress> parse(std::string_view text);
  // The same for the same name on the same host, another on another host: a guest keeps its address from run
  // to run, and two guests on one bridge have two. Locally administered (8.2.2).
  static MacAddress stable(std::string_view name);

  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const MacAddress&, const MacAddress&) = default;
};

}  // namespace vmm::backend
