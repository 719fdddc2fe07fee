// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <netinet/in.h>

#include "vmm/core/result.h"

namespace vmm::backend {

// A port of the host that leads to a port of the guest.
struct HostForward {
  enum class Protocol : uint8_t { tcp, udp };
  Protocol protocol = Protocol::tcp;
  in_addr host_address{};  // to listen on
  uint16_t host_port = 0;
  in_addr guest_address{};  // 0: the first that DHCP gives
  uint16_t guest_port = 0;

  // "tcp:127.0.0.1:8080-:80", "udp::5353-10.0.2.15:53". Without an address only this host can connect: write
  // 0.0.0.0 to let everybody in.
  static Result<HostForward> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
};

}  // namespace vmm::backend
