// SPDX-License-Identifier: Apache-2.0
//
// MSI-X of one function (PCI 3.0, 6.8.2): the table of messages, the pending bits, and the two masks. A
// vector's way into the guest is laid when the guest unmasks it, and only if its message changed since:
// masking, which a guest does often, costs nothing. A message the host refuses makes that vector silent until
// the guest changes it.
//
// Ignored: writes to the pending bits; accesses to the table that are not aligned dwords or qwords (6.8.2
// leaves both undefined). The bus-master bit does not hold messages back.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/bus.h"
#include "vmm/core/fd.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/log.h"

namespace vmm::pci {

class Msix {
 public:
  static constexpr uint8_t kCapabilityId = 0x11;
  static constexpr uint64_t kEntrySize = 16;  // bytes
  static constexpr uint16_t kMaxVectors = 2048;

  // Control bits of the capability (6.8.2.3).
  static constexpr uint16_t kControlEnable = 1U << 15;
  static constexpr uint16_t kControlMask = 1U << 14;

  // `name` is for the log.
  Msix(MsiSink& sink, uint16_t vectors, std::string name);

  [[nodiscard]] uint16_t vectors() const { return static_cast<uint16_t>(vectors_.size()); }
  [[nodiscard]] bool enabled() const;

  // The function has something to say: delivered, or pending while masked. Any thread. Nothing happens for a
  // vector that does not exist, or while MSI-X is disabled.
  void signal(uint16_t vector);
  // The same from the thread of `loop`, as a part of its turn.
  void signal_with(uint16_t vector, EventLoop& loop);

  // Between the two, a ring of `bell`, whoever rings it, is delivered without a thread of ours as long as the
  // vector is open. A ring at any other time is left to whoever watches the bell, for signal(). `bell` must
  // stay. Any thread; a vector that does not exist has no bells.
  void connect(uint16_t vector, const EventFd& bell);
  void disconnect(uint16_t vector, const EventFd& bell);

  // The guest wrote the capability's message control.
  void set_control(bool enabled, bool masked);

  // The regions in the BAR. Offsets count from the table's and the pending bits' beginning; reads behind
  // their end are zero.
  [[nodiscard]] IoHandler& table() { return table_; }
  [[nodiscard]] IoHandler& pending_bits() { return pending_bits_; }

  void reset();

  [[nodiscard]] uint64_t refused() const { return refused_.seen(); }  // routes the host did not grant

 private:
  struct Entry {  // as in the table (6.8.2.6 to 6.8.2.9)
    uint32_t address_low = 0;
    uint32_t address_high = 0;
    uint32_t data = 0;
    uint32_t control = 1;  // bit 0: masked, as at power-on
  };
  static_assert(sizeof(Entry) == kEntrySize);
  struct Bell {
    const EventFd* bell = nullptr;
    bool wanted = false;     // what was last asked of the host: not again before that changes
    bool connected = false;  // and whether it was granted
  };
  struct Vector {
    Entry entry;
    bool pending = false;
    std::vector<Bell> bells;
    std::unique_ptr<MsiVector> wire;   // made at the first route
    std::optional<MsiMessage> routed;  // what was last asked of the host, granted or not
    bool silent = false;               // the host refused
  };
  class Table final : public IoHandler {
   public:
    explicit Table(Msix& msix) : msix_(msix) {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t offset, std::span<const std::byte> in) override;

   private:
    Msix& msix_;
  };
  class PendingBits final : public IoHandler {
   public:
    explicit PendingBits(Msix& msix) : msix_(msix) {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t /*offset*/, std::span<const std::byte> /*in*/) override {}

   private:
    Msix& msix_;
  };

  // With mutex_ held.
  void write_dword(uint64_t offset, uint32_t value);
  [[nodiscard]] bool open(const Vector& vector) const;
  void signal_from(uint16_t vector, EventLoop* loop);
  void settle(Vector& vector, EventLoop* loop = nullptr);
  void route(Vector& vector);
  void want(Vector& vector, Bell& bell, bool wanted);

  MsiSink& sink_;
  const std::string name_;
  Table table_{*this};
  PendingBits pending_bits_{*this};
  LogLimit refused_{1};
  mutable std::mutex mutex_;  // guards what follows
  bool enabled_ = false;
  bool masked_ = false;
  std::vector<Vector> vectors_;  // never resized
};

}  // namespace vmm::pci
