// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/host_forward.h"

#include <array>
#include <charconv>
#include <optional>

#include <arpa/inet.h>

namespace vmm::backend {
namespace {

// "ADDRESS:PORT" where the address may be left out.
struct End {
  in_addr address{};
  uint16_t port = 0;
};

std::optional<End> parse_end(std::string_view text, in_addr otherwise) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  End end{.address = otherwise, .port = 0};
  const std::string address{text.substr(0, colon)};
  if (!address.empty() && ::inet_pton(AF_INET, address.c_str(), &end.address) != 1) return std::nullopt;
  const std::string port{text.substr(colon + 1)};
  const auto* last = port.data() + port.size();
  const auto parsed = std::from_chars(port.data(), last, end.port);
  if (parsed.ec != std::errc{} || parsed.ptr != last || end.port == 0) return std::nullopt;
  return end;
}

std::string text_of(in_addr address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET, &address, text.data(), text.size());
}

}  // namespace

Result<HostForward> HostForward::parse(std::string_view text) {
  const auto bad = [&] {
    return fail("port forwarding '{}' is not understood; write it as tcp:127.0.0.1:8080-:80", text);
  };
  HostForward forward;
  auto rest = text;
  if (rest.starts_with("udp:")) {
    forward.protocol = Protocol::udp;
  } else if (!rest.starts_with("tcp:")) {
    return bad();
  }
  rest.remove_prefix(4);
  const auto dash = rest.find('-');
  if (dash == std::string_view::npos) return bad();
  const auto host = parse_end(rest.substr(0, dash), {.s_addr = htonl(INADDR_LOOPBACK)});
  const auto guest = parse_end(rest.substr(dash + 1), {});
  if (!host || !guest) return bad();
  forward.host_address = host->address;
  forward.host_port = host->port;
  forward.guest_address = guest->address;
  forward.guest_port = guest->port;
  return forward;
}

std::string HostForward::to_string() const {
  const auto guest = guest_address.s_addr == 0 ? std::string{} : text_of(guest_address);
  return fmt::format("{}:{}:{}-{}:{}", protocol == Protocol::tcp ? "tcp" : "udp", text_of(host_address),
                     host_port, guest, guest_port);
}

}  // namespace vmm::backend
