// SPDX-License-Identifier: Apache-2.0
//
// A serial port of the PC: a 16550A between the port bus, an interrupt line and a console. What is missing is
// missing from the chip, see uart16550.h.
//
// Output is handed to the console at once and outside the lock. Input waits in the console: the chip takes
// what its FIFO holds, and asks for more when the guest has read that.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>

#include "devices/backend/console.h"
#include "devices/legacy/uart16550.h"
#include "vmm/core/bus.h"
#include "vmm/core/interrupt.h"

namespace vmm::legacy {

class SerialPort final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = Uart16550::kPorts;

  // Becomes the receiver of the console's input. Both must outlive this, and the console's loop must be at
  // rest when this goes.
  SerialPort(backend::Console& console, IrqLine& irq);
  ~SerialPort() override;
  SerialPort(const SerialPort&) = delete;
  SerialPort& operator=(const SerialPort&) = delete;

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

  // The chip at power-on. Input that waits in the console stays there.
  void reset();

 private:
  size_t receive(std::span<const std::byte> bytes);
  // Both with mutex_ held.
  void update_interrupt();
  [[nodiscard]] bool wants_more();

  backend::Console& console_;
  IrqLine& irq_;
  std::mutex mutex_;
  Uart16550 chip_;        // guarded by mutex_
  bool line_ = false;     // guarded by mutex_: level of the INTR pin, of which the controller sees the edge
  bool refused_ = false;  // guarded by mutex_: the console holds bytes that did not fit
};

}  // namespace vmm::legacy
