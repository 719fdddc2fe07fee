// SPDX-License-Identifier: Apache-2.0
//
// The 4 KiB configuration space of one function, as registers only: a type-0 header (PCI 3.0, 6.1), a list of
// capabilities (6.7), and for each bit whether the guest may write it or clear it by writing one. What a
// write means is the owner's business (endpoint.h).
//
// Missing: extended capabilities; from 0x100 on everything reads zero, which says that there are none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace vmm::pci {

// Offsets in the type-0 header (PCI 3.0, figure 6-1).
enum Reg : uint16_t {
  kVendorId = 0x00,
  kDeviceId = 0x02,
  kCommand = 0x04,
  kStatus = 0x06,
  kRevision = 0x08,
  kClassCode = 0x09,  // three bytes
  kCacheLineSize = 0x0c,
  kHeaderType = 0x0e,
  kBar0 = 0x10,
  kSubsystemVendorId = 0x2c,
  kSubsystemId = 0x2e,
  kCapabilities = 0x34,
  kInterruptLine = 0x3c,
  kInterruptPin = 0x3d,
};

// Command register (6.2.2).
inline constexpr uint16_t kCommandIo = 1U << 0;
inline constexpr uint16_t kCommandMemory = 1U << 1;
inline constexpr uint16_t kCommandBusMaster = 1U << 2;
inline constexpr uint16_t kCommandIntxDisable = 1U << 10;
// Status register (6.2.3).
inline constexpr uint16_t kStatusInterrupt = 1U << 3;
inline constexpr uint16_t kStatusCapabilities = 1U << 4;

struct Identity {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint8_t revision = 0;
  uint32_t class_code = 0;  // class, subclass, interface: 24 bits
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
};

class ConfigSpace {
 public:
  static constexpr size_t kSize = 4096;

  explicit ConfigSpace(const Identity& identity);

  // Puts a capability at the head of the list and returns its offset. `body` follows the id and the next
  // pointer; `writable`, if given, is the write mask of the body.
  uint16_t add_capability(uint8_t id, std::span<const std::byte> body,
                          std::span<const std::byte> writable = {});

  // The owner's side: masks do not count.
  template <typename T>
  [[nodiscard]] T get(size_t offset) const {
    static_assert(std::is_unsigned_v<T>);
    T value;
    check(offset, sizeof(T));
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  template <typename T>
  void set(size_t offset, T value) {
    static_assert(std::is_unsigned_v<T>);
    check(offset, sizeof(T));
    std::memcpy(bytes_.data() + offset, &value, sizeof(T));
  }
  template <typename T>
  void set_writable(size_t offset, T mask) {
    static_assert(std::is_unsigned_v<T>);
    check(offset, sizeof(T));
    std::memcpy(writable_.data() + offset, &mask, sizeof(T));
  }
  // Bits that a written one clears (RW1C) and nothing else changes.
  template <typename T>
  void set_clear_on_one(size_t offset, T mask) {
    static_assert(std::is_unsigned_v<T>);
    check(offset, sizeof(T));
    std::memcpy(clear_on_one_.data() + offset, &mask, sizeof(T));
  }

  // The guest's side. `offset` plus the size must not exceed kSize.
  void read(size_t offset, std::span<std::byte> out) const;
  void write(size_t offset, std::span<const std::byte> in);

 private:
  static void check(size_t offset,
                    size_t size);  // asserts that the range lies inside: a bug of ours otherwise

  std::array<std::byte, kSize> bytes_{};
  std::array<std::byte, kSize> writable_{};
  std::array<std::byte, kSize> clear_on_one_{};
  uint16_t next_capability_ = 0x40;  // first byte behind the header
};

}  // namespace vmm::pci
