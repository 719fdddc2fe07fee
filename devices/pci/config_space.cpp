// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/config_space.h"

#include <algorithm>
#include <cassert>

namespace vmm::pci {

ConfigSpace::ConfigSpace(const Identity& identity) {
  set<uint16_t>(kVendorId, identity.vendor);
  set<uint16_t>(kDeviceId, identity.device);
  set<uint8_t>(kRevision, identity.revision);
  set<uint8_t>(kClassCode, static_cast<uint8_t>(identity.class_code));
  set<uint16_t>(kClassCode + 1, static_cast<uint16_t>(identity.class_code >> 8));
  set<uint16_t>(kSubsystemVendorId, identity.subsystem_vendor);
  set<uint16_t>(kSubsystemId, identity.subsystem);
  set_writable<uint16_t>(kCommand, kCommandIo | kCommandMemory | kCommandBusMaster | kCommandIntxDisable);
  set_clear_on_one<uint16_t>(kStatus, 0xf900);  // parity, abort and system errors (6.2.3)
  set_writable<uint8_t>(kCacheLineSize, 0xff);
  set_writable<uint8_t>(kInterruptLine, 0xff);
}

uint16_t ConfigSpace::add_capability(uint8_t id, std::span<const std::byte> body,
                                     std::span<const std::byte> writable) {
  [[maybe_unused]] constexpr size_t kEnd = 0x100;  // capabilities live in the first 256 bytes
  const uint16_t offset = next_capability_;
  const size_t size = (2 + body.size() + 3) & ~size_t{3};
  assert(offset + size <= kEnd && (writable.empty() || writable.size() == body.size()));
  next_capability_ = static_cast<uint16_t>(offset + size);
  set<uint8_t>(offset, id);
  set<uint8_t>(offset + 1U, get<uint8_t>(kCapabilities));
  std::ranges::copy(body, bytes_.begin() + offset + 2);
  std::ranges::copy(writable, writable_.begin() + offset + 2);
  set<uint8_t>(kCapabilities, static_cast<uint8_t>(offset));
  set<uint16_t>(kStatus, get<uint16_t>(kStatus) | kStatusCapabilities);
  return offset;
}

void ConfigSpace::read(size_t offset, std::span<std::byte> out) const {
  check(offset, out.size());
  std::memcpy(out.data(), bytes_.data() + offset, out.size());
}

void ConfigSpace::write(size_t offset, std::span<const std::byte> in) {
  check(offset, in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    const std::byte old = bytes_[offset + i];
    const std::byte mask = writable_[offset + i];
    const std::byte cleared = clear_on_one_[offset + i] & in[i];
    bytes_[offset + i] = ((old & ~mask) | (in[i] & mask)) & ~cleared;
  }
}

void ConfigSpace::check([[maybe_unused]] size_t offset, [[maybe_unused]] size_t size) {
  assert(offset <= kSize && size <= kSize - offset);
}

}  // namespace vmm::pci
