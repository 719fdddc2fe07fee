// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/i8042.h"

namespace vmm::legacy {
namespace {

constexpr uint64_t kData = 0;
constexpr uint64_t kStatusCommand = 4;

constexpr uint8_t kWriteOutputPort = 0xd1;
constexpr uint8_t kPulseOutputPort = 0xf0;  // the low four bits name the lines that are not pulsed
constexpr uint8_t kResetLine = 0x01;        // bit 0 of the output port; active low

}  // namespace

void I8042::read(uint64_t offset, std::span<std::byte> out) {
  for (std::byte& byte : out) {
    // Status: neither a byte waiting for the guest nor one that the controller has yet to take.
    if (offset == kData || offset == kStatusCommand) byte = std::byte{0};
    ++offset;
  }
}

void I8042::write(uint64_t offset, std::span<const std::byte> in) {
  for (const std::byte byte : in) write_register(offset++, std::to_integer<uint8_t>(byte));
}

void I8042::write_register(uint64_t offset, uint8_t value) {
  bool reset = false;
  if (offset == kData) {
    reset = output_port_follows_.exchange(false) && (value & kResetLine) == 0;
  } else if (offset == kStatusCommand) {
    output_port_follows_ = value == kWriteOutputPort;
    reset = (value & 0xf0) == kPulseOutputPort && (value & kResetLine) == 0;
  }
  if (reset) power_.request(PowerEvent::reset, "keyboard controller");
}

}  // namespace vmm::legacy
