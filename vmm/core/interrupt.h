// SPDX-License-Identifier: Apache-2.0
//
// The three wires between a device and the machine: an interrupt line, message-signalled interrupts, and
// doorbells. Devices hold these; only vmm/kvm knows how they reach a vCPU. All calls are safe from any thread
// and are leaves: they take no lock of the caller's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm {

class EventFd;
class EventLoop;

// One input of the interrupt controllers.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  virtual void set(bool level) = 0;  // level-triggered: holds until set(false)
  virtual void pulse() = 0;          // edge-triggered: one interrupt
  // The same as a part of this turn of the caller's loop, where the wire allows it.
  virtual void pulse_with(EventLoop& /*loop*/) { pulse(); }
};

// A message as the guest programs it (PCI 3.0, 6.8.2.6): what is written, and where.
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
  friend bool operator==(const MsiMessage&, const MsiMessage&) = default;
};

// One message-signalled interrupt with a fixed way into the guest.
class MsiVector {
 public:
  virtual ~MsiVector() = default;
  // Where signal() leads from now on. Fails when the host refuses the route; the old one is then gone.
  virtual Result<void> route(const MsiMessage& message) = 0;
  // Delivers one interrupt, at once or as a part of this turn of the caller's loop; dropped while there is no
  // route. Masking is the caller's business.
  virtual void signal() = 0;
  virtual void signal_with(EventLoop& loop) = 0;
  // Between the two, once there is a route, a ring of `bell` is a signal() without a thread of ours, and is
  // taken before others who watch the bell. What was rung and not taken before counts, too. `bell` must stay.
  virtual Result<void> connect(const EventFd& bell) = 0;
  virtual void disconnect(const EventFd& bell) = 0;
};

class MsiSink {
 public:
  virtual ~MsiSink() = default;
  virtual Result<std::unique_ptr<MsiVector>> create_vector() = 0;
};

// A guest write that wakes an eventfd without an exit to user space.
struct DoorbellAddress {
  enum class Space : uint8_t { mmio, port };
  Space space = Space::mmio;
  uint64_t address = 0;
  uint32_t length = 0;            // bytes; 0: a write of any width
  std::optional<uint64_t> match;  // only this value rings
  friend bool operator==(const DoorbellAddress&, const DoorbellAddress&) = default;
};

class DoorbellSink {
 public:
  virtual ~DoorbellSink() = default;
  virtual Result<void> bind(const DoorbellAddress& address, int event_fd) = 0;
  virtual void unbind(const DoorbellAddress& address, int event_fd) = 0;

  // Guest writes to these addresses may wait until the guest does anything else that comes to user space, and
  // are then made in order. For registers that nobody looks at before that. They come at once where it cannot
  // be had.
  virtual void coalesce(Gpa /*base*/, uint64_t /*size*/) {}
  virtual void uncoalesce(Gpa /*base*/, uint64_t /*size*/) {}
};

}  // namespace vmm
