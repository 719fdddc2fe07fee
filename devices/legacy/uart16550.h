// SPDX-License-Identifier: Apache-2.0
//
// The 16550A: the serial chip of the PC, as a pure state machine. No clock, no lock, no wire: bytes go in and
// come out by function results, and interrupt() is the INTR pin.
//
// Specification: National Semiconductor PC16550D (June 1995), section 8 for the registers.
// Missing: break, parity and framing errors; the modem's input pins, which stay at carrier, ready and clear
// to send. Ignored: the divisor, word length and parity, since a byte takes no time here. Therefore the
// transmitter is empty again as soon as it is written, and the time-out of the receiver FIFO is over at once.
// OUT2 does not gate the interrupt as it does on a PC's board: small kernels leave it clear and still wait
// for interrupts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace vmm::legacy {

class Uart16550 {
 public:
  static constexpr uint64_t kPorts = 8;
  static constexpr size_t kFifoSize = 16;

  // `offset` is below kPorts. A read of the receiver or of a status register changes the state, as in the
  // chip.
  [[nodiscard]] uint8_t read(uint64_t offset);
  // The byte that this write put on the wire, if it did.
  [[nodiscard]] std::optional<std::byte> write(uint64_t offset, uint8_t value);

  // Bytes that arrive on the wire. Takes what fits and says how many: nothing is lost that the sender can
  // hold.
  [[nodiscard]] size_t receive(std::span<const std::byte> bytes);
  [[nodiscard]] size_t room() const;  // bytes that receive() would take now
  [[nodiscard]] bool receiver_empty() const {
    return state_.count == 0;
  }  // nothing left for the guest to read

  [[nodiscard]] bool interrupt() const;
  void reset() { state_ = State{}; }

 private:
  struct State {
    std::array<std::byte, kFifoSize> fifo{};
    uint8_t first = 0;  // of the bytes in fifo
    uint8_t count = 0;
    uint8_t interrupt_enable = 0;
    uint8_t fifo_control = 0;
    uint8_t line_control = 0;
    uint8_t modem_control = 0;
    uint8_t scratch = 0;
    uint8_t modem_delta = 0;  // low half of the modem status: inputs that changed since it was read
    uint16_t divisor = 0;
    bool overrun = false;
    bool thr_pending = false;  // the "transmitter empty" interrupt was raised and not yet seen
  };

  [[nodiscard]] bool divisor_selected() const;
  [[nodiscard]] bool fifo_enabled() const;
  [[nodiscard]] bool loopback() const;
  [[nodiscard]] size_t capacity() const;
  [[nodiscard]] uint8_t modem_inputs() const;
  [[nodiscard]] uint8_t interrupt_cause() const;
  uint8_t take();
  void put(std::byte byte);
  std::optional<std::byte> transmit(uint8_t value);
  void set_fifo_control(uint8_t value);
  void set_modem_control(uint8_t value);

  State state_;
};

}  // namespace vmm::legacy
