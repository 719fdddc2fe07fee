// SPDX-License-Identifier: Apache-2.0
#include "firmware/aml.h"

#include <cassert>

namespace vmm::firmware::aml {
namespace {

constexpr uint8_t kZeroOp = 0x00;
constexpr uint8_t kOneOp = 0x01;
constexpr uint8_t kNameOp = 0x08;
constexpr uint8_t kBytePrefix = 0x0a;
constexpr uint8_t kWordPrefix = 0x0b;
constexpr uint8_t kDwordPrefix = 0x0c;
constexpr uint8_t kStringPrefix = 0x0d;
constexpr uint8_t kQwordPrefix = 0x0e;
constexpr uint8_t kScopeOp = 0x10;
constexpr uint8_t kBufferOp = 0x11;
constexpr uint8_t kExtendedPrefix = 0x5b;
constexpr uint8_t kDeviceOp = 0x82;

void put(Bytes& to, uint8_t byte) {
  to.push_back(std::byte{byte});
}

void put_number(Bytes& to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) put(to, static_cast<uint8_t>(value >> (8 * i)));
}

void put_name(Bytes& to, std::string_view name) {
  assert(!name.empty() && name.size() <= 4);
  for (size_t i = 0; i < 4; ++i) put(to, i < name.size() ? static_cast<uint8_t>(name[i]) : '_');
}

// PkgLength counts its own bytes: one up to 63, else one to three more hold all but the low four bits
// (20.2.4).
void put_package(Bytes& to, const Bytes& content) {
  size_t extra = 0;
  size_t length = content.size() + 1;
  if (length > 0x3f) {
    extra = 1;
    while (content.size() + 1 + extra >= 1ULL << (4 + 8 * extra)) ++extra;
    assert(extra <= 3);
    length = content.size() + 1 + extra;
    put(to, static_cast<uint8_t>(extra << 6 | (length & 0x0f)));
    put_number(to, length >> 4, static_cast<int>(extra));
  } else {
    put(to, static_cast<uint8_t>(length));
  }
  append(to, content);
}

}  // namespace

void append(Bytes& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

Bytes integer(uint64_t value) {
  Bytes out;
  if (value <= 1) {
    put(out, value == 0 ? kZeroOp : kOneOp);
  } else if (value <= 0xff) {
    put(out, kBytePrefix);
    put_number(out, value, 1);
  } else if (value <= 0xffff) {
    put(out, kWordPrefix);
    put_number(out, value, 2);
  } else if (value <= 0xffff'ffff) {
    put(out, kDwordPrefix);
    put_number(out, value, 4);
  } else {
    put(out, kQwordPrefix);
    put_number(out, value, 8);
  }
  return out;
}

Bytes string(std::string_view text) {
  Bytes out;
  put(out, kStringPrefix);
  append(out, std::as_bytes(std::span{text}));
  put(out, 0);
  return out;
}

Bytes resources(std::initializer_list<Bytes> descriptors) {
  Bytes list;
  for (const Bytes& descriptor : descriptors) append(list, descriptor);
  put(list, 0x79);  // end tag
  put(list, 0);     // its checksum: zero is always right
  Bytes content = integer(list.size());
  append(content, list);
  Bytes out;
  put(out, kBufferOp);
  put_package(out, content);
  return out;
}

Bytes memory32(uint32_t base, uint32_t size) {
  Bytes out;
  put(out, 0x86);
  put_number(out, 9, 2);  // length of what follows
  put(out, 0x01);         // writable
  put_number(out, base, 4);
  put_number(out, size, 4);
  return out;
}

Bytes edge_interrupt(Gsi gsi) {
  Bytes out;
  put(out, 0x89);
  put_number(out, 6, 2);  // length of what follows
  put(out, 0x03);         // consumer, edge; active high and exclusive are zeros
  put(out, 1);            // one interrupt
  put_number(out, gsi.raw, 4);
  return out;
}

Bytes name(std::string_view name, const Bytes& data) {
  Bytes out;
  put(out, kNameOp);
  put_name(out, name);
  append(out, data);
  return out;
}

Bytes device(std::string_view name, std::initializer_list<Bytes> objects) {
  Bytes content;
  put_name(content, name);
  for (const Bytes& object : objects) append(content, object);
  Bytes out;
  put(out, kExtendedPrefix);
  put(out, kDeviceOp);
  put_package(out, content);
  return out;
}

Bytes system_bus(const Bytes& objects) {
  Bytes content;
  put(content, '\\');
  put_name(content, "_SB");
  append(content, objects);
  Bytes out;
  put(out, kScopeOp);
  put_package(out, content);
  return out;
}

}  // namespace vmm::firmware::aml
