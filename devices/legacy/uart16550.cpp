// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/uart16550.h"

#include <algorithm>

namespace vmm::legacy {
namespace {

enum class Reg : uint64_t { data = 0, ier = 1, iir_fcr = 2, lcr = 3, mcr = 4, lsr = 5, msr = 6, scratch = 7 };

constexpr uint8_t kIerReceived = 0x01;
constexpr uint8_t kIerTransmitterEmpty = 0x02;
constexpr uint8_t kIerLineStatus = 0x04;
constexpr uint8_t kIerModemStatus = 0x08;

// Causes in the order of their priority (table 8-5).
constexpr uint8_t kCauseLineStatus = 0x06;
constexpr uint8_t kCauseReceived = 0x04;
constexpr uint8_t kCauseTimeout = 0x0c;
constexpr uint8_t kCauseTransmitterEmpty = 0x02;
constexpr uint8_t kCauseModemStatus = 0x00;
constexpr uint8_t kCauseNone = 0x01;
constexpr uint8_t kIirFifosEnabled = 0xc0;

constexpr uint8_t kFcrEnable = 0x01;
constexpr uint8_t kFcrClearReceiver = 0x02;
constexpr uint8_t kFcrKept = 0xc9;  // enable, DMA mode, trigger level; the clear bits reset themselves
constexpr std::array<uint8_t, 4> kTriggerLevels = {1, 4, 8, 14};

constexpr uint8_t kLcrDivisorLatch = 0x80;

constexpr uint8_t kMcrDtr = 0x01;
constexpr uint8_t kMcrRts = 0x02;
constexpr uint8_t kMcrOut1 = 0x04;
constexpr uint8_t kMcrOut2 = 0x08;
constexpr uint8_t kMcrLoop = 0x10;

constexpr uint8_t kLsrDataReady = 0x01;
constexpr uint8_t kLsrOverrun = 0x02;
constexpr uint8_t kLsrTransmitterEmpty = 0x60;  // both the holding register and the shift register

constexpr uint8_t kMsrCts = 0x10;
constexpr uint8_t kMsrDsr = 0x20;
constexpr uint8_t kMsrRing = 0x40;
constexpr uint8_t kMsrCarrier = 0x80;

}  // namespace

bool Uart16550::divisor_selected() const {
  return (state_.line_control & kLcrDivisorLatch) != 0;
}
bool Uart16550::fifo_enabled() const {
  return (state_.fifo_control & kFcrEnable) != 0;
}
bool Uart16550::loopback() const {
  return (state_.modem_control & kMcrLoop) != 0;
}
size_t Uart16550::capacity() const {
  return fifo_enabled() ? kFifoSize : 1;
}

// In loopback the input pin is cut off from the receiver (8.6.6).
size_t Uart16550::room() const {
  return loopback() ? 0 : capacity() - state_.count;
}

size_t Uart16550::receive(std::span<const std::byte> bytes) {
  const size_t taken = std::min(bytes.size(), room());
  for (const std::byte byte : bytes.first(taken)) put(byte);
  return taken;
}

void Uart16550::put(std::byte byte) {
  if (state_.count >= capacity()) {
    state_.overrun = true;
    return;
  }
  state_.fifo[(state_.first + state_.count) % kFifoSize] = byte;
  ++state_.count;
}

uint8_t Uart16550::take() {
  if (state_.count == 0) return 0;
  const std::byte byte = state_.fifo[state_.first];
  state_.first = static_cast<uint8_t>((state_.first + 1) % kFifoSize);
  --state_.count;
  return std::to_integer<uint8_t>(byte);
}

// The upper half of the modem status. In loopback the outputs are wired to the inputs (8.6.6).
uint8_t Uart16550::modem_inputs() const {
  if (!loopback()) return kMsrCarrier | kMsrDsr | kMsrCts;
  const uint8_t mcr = state_.modem_control;
  uint8_t inputs = 0;
  if ((mcr & kMcrRts) != 0) inputs |= kMsrCts;
  if ((mcr & kMcrDtr) != 0) inputs |= kMsrDsr;
  if ((mcr & kMcrOut1) != 0) inputs |= kMsrRing;
  if ((mcr & kMcrOut2) != 0) inputs |= kMsrCarrier;
  return inputs;
}

uint8_t Uart16550::interrupt_cause() const {
  const uint8_t enabled = state_.interrupt_enable;
  if ((enabled & kIerLineStatus) != 0 && state_.overrun) return kCauseLineStatus;
  if ((enabled & kIerReceived) != 0 && state_.count > 0) {
    if (!fifo_enabled()) return kCauseReceived;
    return state_.count >= kTriggerLevels[state_.fifo_control >> 6] ? kCauseReceived : kCauseTimeout;
  }
  if ((enabled & kIerTransmitterEmpty) != 0 && state_.thr_pending) return kCauseTransmitterEmpty;
  if ((enabled & kIerModemStatus) != 0 && state_.modem_delta != 0) return kCauseModemStatus;
  return kCauseNone;
}

bool Uart16550::interrupt() const {
  return interrupt_cause() != kCauseNone;
}

uint8_t Uart16550::read(uint64_t offset) {
  switch (Reg{offset}) {
    case Reg::data:
      return divisor_selected() ? static_cast<uint8_t>(state_.divisor) : take();
    case Reg::ier:
      return divisor_selected() ? static_cast<uint8_t>(state_.divisor >> 8) : state_.interrupt_enable;
    case Reg::iir_fcr: {
      const uint8_t cause = interrupt_cause();
      // Being told of an empty transmitter settles that interrupt (table 8-5, last column).
      if (cause == kCauseTransmitterEmpty) state_.thr_pending = false;
      return static_cast<uint8_t>(cause | (fifo_enabled() ? kIirFifosEnabled : 0));
    }
    case Reg::lcr:
      return state_.line_control;
    case Reg::mcr:
      return state_.modem_control;
    case Reg::lsr: {
      uint8_t status = kLsrTransmitterEmpty;
      if (state_.count > 0) status |= kLsrDataReady;
      if (state_.overrun) status |= kLsrOverrun;
      state_.overrun = false;
      return status;
    }
    case Reg::msr: {
      const uint8_t status = static_cast<uint8_t>(modem_inputs() | state_.modem_delta);
      state_.modem_delta = 0;
      return status;
    }
    case Reg::scratch:
      return state_.scratch;
  }
  return 0xff;
}

std::optional<std::byte> Uart16550::write(uint64_t offset, uint8_t value) {
  switch (Reg{offset}) {
    case Reg::data:
      if (!divisor_selected()) return transmit(value);
      state_.divisor = static_cast<uint16_t>((state_.divisor & 0xff00) | value);
      break;
    case Reg::ier:
      if (divisor_selected()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00ff) | (value << 8));
        break;
      }
      // Enabling the interrupt of an empty transmitter raises it: drivers start their first transfer by that.
      if ((value & ~state_.interrupt_enable & kIerTransmitterEmpty) != 0) state_.thr_pending = true;
      state_.interrupt_enable = value & 0x0f;
      break;
    case Reg::iir_fcr:
      set_fifo_control(value);
      break;
    case Reg::lcr:
      state_.line_control = value;
      break;
    case Reg::mcr:
      set_modem_control(value);
      break;
    case Reg::lsr:  // for factory tests in the chip
    case Reg::msr:
      break;
    case Reg::scratch:
      state_.scratch = value;
      break;
  }
  return std::nullopt;
}

// The byte leaves at once, so that writing settles one "transmitter empty" interrupt and raises the next.
std::optional<std::byte> Uart16550::transmit(uint8_t value) {
  state_.thr_pending = true;
  if (!loopback()) return std::byte{value};
  put(std::byte{value});
  return std::nullopt;
}

void Uart16550::set_fifo_control(uint8_t value) {
  const bool enable = (value & kFcrEnable) != 0;
  // Switching between the modes empties the FIFOs; the other bits count only when the FIFOs are on (8.6.4).
  if (enable != fifo_enabled() || (enable && (value & kFcrClearReceiver) != 0)) {
    state_.first = 0;
    state_.count = 0;
  }
  state_.fifo_control = enable ? value & kFcrKept : 0;
}

void Uart16550::set_modem_control(uint8_t value) {
  const uint8_t before = modem_inputs();
  state_.modem_control = value & 0x1f;
  const uint8_t changed = static_cast<uint8_t>(before ^ modem_inputs());
  // The ring input reports only its trailing edge (8.6.7).
  const bool ring_ended = (before & changed & kMsrRing) != 0;
  state_.modem_delta |= static_cast<uint8_t>(((changed & ~kMsrRing) | (ring_ended ? kMsrRing : 0)) >> 4);
}

}  // namespace vmm::legacy
