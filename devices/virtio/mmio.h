// SPDX-License-Identifier: Apache-2.0
//
// Virtio over MMIO, version 2 (virtio 1.2, 4.2): one page of registers and one edge-triggered interrupt.
//
// Missing: shared memory regions (their registers read as -1), QueueReset.
// Ignored: accesses to registers below 0x100 that are not 32 bits wide and aligned; they read as ones.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "devices/virtio/transport_core.h"
#include "vmm/core/bus.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/types.h"

namespace vmm::virtio {

class MmioTransport final : public IoHandler {
 public:
  static constexpr uint64_t kSize = 4096;  // bytes of address space from `base`

  // Binds the queues' doorbells at `base`; mapping the registers there is the caller's. All that is passed
  // must outlive the transport, and the device must have been reset before it goes (TransportCore).
  static Result<std::unique_ptr<MmioTransport>> create(Device& device, const GuestMemory& memory,
                                                       IrqLine& irq, DoorbellSink& doorbells, Gpa base);
  MmioTransport(const MmioTransport&) = delete;
  MmioTransport& operator=(const MmioTransport&) = delete;
  ~MmioTransport() override;

  // Back to power-on; see TransportCore::reset().
  void reset() { core_->reset(); }

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

 private:
  // Each event is an edge, even while an earlier one is not acknowledged: a driver may acknowledge after it
  // has looked at its queues, and would miss what came in between.
  class Interrupts final : public TransportInterrupts {
   public:
    explicit Interrupts(IrqLine& irq) : irq_(irq) {}
    void raise_queue(uint16_t queue, EventLoop& loop) override;
    void raise_config() override;
    // An interrupt has its cause in a register, which only we can set.
    void connect_queue(uint16_t /*queue*/, const EventFd& /*bell*/) override {}
    void reset() override { status_.store(0); }
    [[nodiscard]] uint32_t status() const { return status_.load(); }
    void acknowledge(uint32_t bits) { status_.fetch_and(~bits); }

   private:
    IrqLine& irq_;
    std::atomic<uint32_t> status_{0};
  };

  MmioTransport(IrqLine& irq, DoorbellSink& doorbells, Gpa base);
  [[nodiscard]] DoorbellAddress doorbell_address(uint16_t queue) const;
  [[nodiscard]] std::optional<uint32_t> read_register(uint64_t offset) const;
  void write_register(uint64_t offset, uint32_t value);

  const Gpa base_;
  DoorbellSink& doorbells_;
  Interrupts interrupts_;
  std::unique_ptr<TransportCore> core_;
  uint16_t bound_ = 0;  // doorbells bound so far
};

}  // namespace vmm::virtio
