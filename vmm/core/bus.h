// SPDX-License-Identifier: Apache-2.0
//
// An address space of devices: ports or MMIO. A handler knows offsets into its own range, not addresses. The
// bus looks a handler up under a lock and calls it with none held, so a handler may map and unmap ranges (a
// PCI BAR moves on a configuration write) without a lock order to get wrong. Handlers must therefore outlive
// the bus's last caller: the machine joins its vCPU threads first.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.h"

namespace vmm {

class IoHandler {
 public:
  virtual ~IoHandler() = default;
  // Little-endian, 1, 2, 4 or 8 bytes (16 at most), wholly inside the mapped range. Any vCPU thread, several
  // at once. `out` arrives filled with ones: a handler writes only what is there.
  virtual void read(uint64_t offset, std::span<std::byte> out) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> in) = 0;
};

class Bus {
 public:
  struct Counts {
    std::string name;
    uint64_t reads = 0;
    uint64_t writes = 0;
  };

  // Fails if the range is empty, wraps, or overlaps another. Ranges of one name share one pair of counters.
  Result<void> map(uint64_t base, uint64_t size, IoHandler& handler, std::string_view name);
  void unmap(uint64_t base);

  // An access that is not wholly inside one range reads all-ones or is dropped, and is counted as "unmapped".
  void read(uint64_t address, std::span<std::byte> out);
  void write(uint64_t address, std::span<const std::byte> in);

  // Who lives at `address`, and where in its range: for a person. "unmapped", at the address itself, if
  // nobody.
  struct Resident {
    std::string_view name;  // valid as long as the bus
    uint64_t offset = 0;
  };
  [[nodiscard]] Resident resident(uint64_t address) const;

  [[nodiscard]] std::vector<Counts> counts() const;

 private:
  struct Counters {
    std::string name;
    std::atomic<uint64_t> reads{0};
    std::atomic<uint64_t> writes{0};
  };
  struct Range {
    uint64_t size;
    IoHandler* handler;
    Counters* counters;
  };
  struct Target {
    IoHandler* handler;
    uint64_t offset;
    Counters* counters;
  };
  [[nodiscard]] Target find(uint64_t address, uint64_t length) const;

  mutable std::shared_mutex mutex_;
  std::map<uint64_t, Range> ranges_;  // by base; guarded by mutex_
  std::deque<Counters> counters_;     // grows under mutex_, addresses stay
  mutable Counters unmapped_{.name = "unmapped"};
};

}  // namespace vmm
