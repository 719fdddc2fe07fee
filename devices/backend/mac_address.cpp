// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/mac_address.h"

#include <algorithm>
#include <charconv>
#include <fstream>

#include <fmt/format.h>

namespace vmm::backend {
namespace {

constexpr uint8_t kGroup = 0x01;  // the first bit on the wire
constexpr uint8_t kLocal = 0x02;

// FNV-1a: spreads names; it need not resist anybody.
uint64_t hash(std::string_view text, uint64_t state) {
  for (const char c : text) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return state;
}

// machine-id(5); empty where there is none.
std::string machine_id() {
  std::string id;
  std::ifstream{"/etc/machine-id"} >> id;
  return id;
}

}  // namespace

Result<MacAddress> MacAddress::parse(std::string_view text) {
  const auto bad = [&] { return fail("{} is no MAC address; write six bytes as 52:54:00:12:34:56", text); };
  MacAddress mac;
  if (text.size() != 17) return bad();
  for (size_t i = 0; i < mac.bytes.size(); ++i) {
    const std::string pair{text.substr(3 * i, 2)};
    const auto parsed = std::from_chars(pair.data(), pair.data() + 2, mac.bytes[i], 16);
    if (parsed.ec != std::errc{} || parsed.ptr != pair.data() + 2) return bad();
    if (i < 5 && text[3 * i + 2] != ':') return bad();
  }
  if ((mac.bytes[0] & kGroup) != 0)
    return fail("MAC address {} is a group's; make its first byte even", text);
  if (mac == MacAddress{}) return fail("MAC address {} is nobody's; choose another", text);
  return mac;
}

MacAddress MacAddress::stable(std::string_view name) {
  constexpr uint64_t kBasis = 0xcbf29ce484222325;
  uint64_t bits = hash(name, hash(machine_id(), kBasis));
  MacAddress mac;
  for (auto& byte : mac.bytes) {
    byte = static_cast<uint8_t>(bits);
    bits >>= 8;
  }
  mac.bytes[0] = static_cast<uint8_t>((mac.bytes[0] & ~kGroup) | kLocal);
  return mac;
}

std::string MacAddress::to_string() const {
  return fmt::format("{:02x}", fmt::join(bytes, ":"));
}

}  // namespace vmm::backend
