// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/serial_port.h"

namespace vmm::legacy {

SerialPort::SerialPort(backend::Console& console, IrqLine& irq) : console_(console), irq_(irq) {
  console_.set_input([this](std::span<const std::byte> bytes) { return receive(bytes); });
}

SerialPort::~SerialPort() {
  console_.set_input({});
}

void SerialPort::read(uint64_t offset, std::span<std::byte> out) {
  bool more = false;
  {
    const std::lock_guard lock(mutex_);
    // A wide access reaches an 8-bit device as one access for each byte.
    for (std::byte& byte : out) byte = std::byte{chip_.read(offset++)};
    update_interrupt();
    more = wants_more();
  }
  if (more) console_.resume();
}

void SerialPort::write(uint64_t offset, std::span<const std::byte> in) {
  for (const std::byte byte : in) {
    std::optional<std::byte> sent;
    bool more = false;
    {
      const std::lock_guard lock(mutex_);
      sent = chip_.write(offset++, std::to_integer<uint8_t>(byte));
      update_interrupt();
      more = wants_more();
    }
    if (sent) console_.write({&*sent, 1});
    if (more) console_.resume();
  }
}

void SerialPort::reset() {
  bool more = false;
  {
    const std::lock_guard lock(mutex_);
    chip_.reset();
    update_interrupt();
    more = wants_more();
  }
  if (more) console_.resume();
}

size_t SerialPort::receive(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const size_t taken = chip_.receive(bytes);
  refused_ = taken < bytes.size();
  update_interrupt();
  return taken;
}

// The interrupt is edge-triggered: a pin that goes down and up again within one access gave no edge.
void SerialPort::update_interrupt() {
  const bool level = chip_.interrupt();
  if (level && !line_) irq_.pulse();
  line_ = level;
}

// Waits until the guest has read everything: one wake-up of the console for a FIFO full, not one for each
// byte.
bool SerialPort::wants_more() {
  if (!refused_ || !chip_.receiver_empty() || chip_.room() == 0) return false;
  refused_ = false;
  return true;
}

}  // namespace vmm::legacy
