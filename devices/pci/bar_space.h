// SPDX-License-Identifier: Apache-2.0
//
// The window of guest-physical addresses where memory BARs are decoded, or of ports for I/O BARs, and the
// BARs in it. A guest may program a BAR with any address: one outside the window, or one that another BAR
// has, is not decoded, so a guest cannot lay a device over RAM, the interrupt controllers or its neighbour.
// It is decoded again as soon as it is moved to a free place, or the place it asks for becomes free.
//
// Doorbells belong to a BAR and follow it: bound while it is decoded, at the address where it is.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/core/bus.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/log.h"
#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm::pci {

class BarRegion;

struct BarDoorbell {
  uint64_t offset;  // in the BAR
  uint32_t length;  // as in DoorbellAddress
  int event_fd;
  std::optional<DoorbellAddress> bound;
};

class BarSpace {
 public:
  using Kind = DoorbellAddress::Space;
  struct Window {
    uint64_t base;
    uint64_t size = 0;  // bytes, or ports
  };
  // `bus` is that of the kind.
  BarSpace(Kind kind, Bus& bus, DoorbellSink& doorbells, const Window& window)
      : kind_(kind), bus_(bus), doorbells_(doorbells), window_(window), next_free_(window.base) {}

  // A power-on address, aligned to `size` (a power of two), that no earlier call was given: the firmware's
  // part.
  Result<uint64_t> allocate(uint64_t size);

  // How often a guest asked for an address that could not be decoded.
  [[nodiscard]] uint64_t refused() const { return refused_.seen(); }

 private:
  friend class BarRegion;
  [[nodiscard]] bool inside(uint64_t base, uint64_t size) const;
  // With mutex_ held.
  void map(BarRegion& region);
  void unmap(BarRegion& region);
  void map_waiting();
  void bind(const BarRegion& region, BarDoorbell& doorbell);
  void unbind(BarDoorbell& doorbell);

  const Kind kind_;
  Bus& bus_;
  DoorbellSink& doorbells_;
  const Window window_;
  LogLimit refused_{1};
  LogLimit unbound_{1};
  std::mutex mutex_;  // guards what follows, and the state of every region
  uint64_t next_free_;
  std::vector<BarRegion*> regions_;
};

// The registers behind one BAR.
class BarRegion {
 public:
  // `size`: bytes or ports, a power of two; of memory at least 4 KiB so that no page holds two devices, of
  // ports at least 4 (PCI 3.0, 6.2.5.1).
  BarRegion(BarSpace& space, IoHandler& handler, uint64_t size, std::string name);
  ~BarRegion();
  BarRegion(const BarRegion&) = delete;
  BarRegion& operator=(const BarRegion&) = delete;

  [[nodiscard]] uint64_t size() const { return size_; }

  // Where the guest wants it; none: decoding is off. Not getting there is counted, and said once,
  // unless it is no fault of the guest.
  enum class Refusal : uint8_t { counted, expected };
  void decode_at(std::optional<uint64_t> base, Refusal refusal);
  [[nodiscard]] std::optional<uint64_t> decoded_at() const;

  // Any thread. `length` as in DoorbellAddress. A doorbell the host refuses is logged; the write then reaches
  // the handler.
  void add_doorbell(uint64_t offset, uint32_t length, int event_fd);
  void remove_doorbell(uint64_t offset, int event_fd);
  // Set-up, memory only: writes to this part may wait (DoorbellSink::coalesce).
  void add_coalesced(uint64_t offset, uint64_t size);

 private:
  friend class BarSpace;
  BarSpace& space_;
  IoHandler& handler_;
  const uint64_t size_;
  const std::string name_;
  std::optional<uint64_t> wanted_;  // this and what follows: guarded by space_.mutex_
  std::optional<uint64_t> mapped_;
  std::vector<BarDoorbell> doorbells_;
  std::vector<std::pair<uint64_t, uint64_t>> coalesced_;  // offset, size
};

}  // namespace vmm::pci
