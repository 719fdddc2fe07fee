// SPDX-License-Identifier: Apache-2.0
//
// Ethernet frames by hand, as a guest would send and read them: a string of bytes, big-endian fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vmm::backend::frames {

inline std::string be16(uint32_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}
inline std::string be32(uint32_t value) {
  return be16(value >> 16) + be16(value & 0xffff);
}

inline uint32_t get8(std::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes.at(at));
}
inline uint32_t get16(std::string_view bytes, size_t at) {
  return get8(bytes, at) << 8 | get8(bytes, at + 1);
}
inline uint32_t get32(std::string_view bytes, size_t at) {
  return get16(bytes, at) << 16 | get16(bytes, at + 2);
}

constexpr std::string_view kGuestMac{"\x02\x11\x22\x33\x44\x55", 6};
constexpr std::string_view kBroadcast{"\xff\xff\xff\xff\xff\xff", 6};
constexpr uint32_t kGuest = 0x0a00020f;    // 10.0.2.15
constexpr uint32_t kGateway = 0x0a000202;  // 10.0.2.2
constexpr uint32_t kArp = 0x0806;
constexpr uint32_t kIp = 0x0800;
constexpr uint32_t kTcp = 6;
constexpr uint32_t kUdp = 17;

// RFC 1071.
inline uint32_t checksum(std::string_view bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    sum += get8(bytes, i) << 8 | (i + 1 < bytes.size() ? get8(bytes, i + 1) : 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

inline std::string ethernet(std::string_view to, uint32_t type, std::string_view payload) {
  return std::string{to} + std::string{kGuestMac} + be16(type) + std::string{payload};
}

inline std::string ip(uint32_t protocol, uint32_t from, uint32_t to, std::string_view payload) {
  const auto header = [&](uint32_t sum) {
    return be16(0x4500) + be16(static_cast<uint32_t>(20 + payload.size())) + be32(0) +
           be16(64 << 8 | protocol) + be16(sum) + be32(from) + be32(to);
  };
  return header(checksum(header(0))) + std::string{payload};
}

inline std::string udp(uint32_t from, uint32_t to, std::string_view payload) {
  return be16(from) + be16(to) + be16(static_cast<uint32_t>(8 + payload.size())) + be16(0) +
         std::string{payload};
}

struct Segment {
  uint32_t from = 0;  // ports
  uint32_t to = 0;
  uint32_t sequence = 0;
  uint32_t acknowledged = 0;
  uint32_t flags = 0;
  std::string payload = {};

  static constexpr uint32_t kFin = 1;
  static constexpr uint32_t kSyn = 2;
  static constexpr uint32_t kAck = 16;
};

// A segment between two addresses, as an IP packet.
inline std::string tcp(uint32_t from, uint32_t to, const Segment& segment) {
  const auto bytes = [&](uint32_t sum) {
    return be16(segment.from) + be16(segment.to) + be32(segment.sequence) + be32(segment.acknowledged) +
           be16(5 << 12 | segment.flags) + be16(65535) + be16(sum) + be16(0) + segment.payload;
  };
  const auto pseudo =
      be32(from) + be32(to) + be16(kTcp) + be16(static_cast<uint32_t>(20 + segment.payload.size()));
  return ip(kTcp, from, to, bytes(checksum(pseudo + bytes(0))));
}

// The segment in an Ethernet frame that holds one.
inline Segment parse_tcp(std::string_view frame) {
  const auto packet = frame.substr(14);
  const size_t header = (get8(packet, 0) & 15) * 4;
  const auto segment = packet.substr(header, get16(packet, 2) - header);
  return {.from = get16(segment, 0),
          .to = get16(segment, 2),
          .sequence = get32(segment, 4),
          .acknowledged = get32(segment, 8),
          .flags = get8(segment, 13) & 0x3f,
          .payload = std::string{segment.substr((get8(segment, 12) >> 4) * 4)}};
}

inline bool is_arp(std::string_view frame) {
  return get16(frame, 12) == kArp;
}
inline bool is_ip(std::string_view frame, uint32_t protocol) {
  return get16(frame, 12) == kIp && get8(frame, 23) == protocol;
}

// The guest's answer to whoever asks for its address.
inline std::string arp_reply(std::string_view request) {
  const auto asker = std::string{request.substr(22, 10)};
  return ethernet(
      request.substr(6, 6), kArp,
      be16(1) + be16(kIp) + be16(0x0604) + be16(2) + std::string{kGuestMac} + be32(kGuest) + asker);
}

}  // namespace vmm::backend::frames
