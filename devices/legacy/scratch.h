// SPDX-License-Identifier: Apache-2.0
//
// Scratch: registers that remember what was written, for guests that test how their accesses travel. Present
// only with --debug-ports.
//   ports 0xE00-0xE0F           16 bytes
//   MMIO  0xFEA00000-0xFEA00FFF a page: bytes up to 0xFBF, then counters of 32 bits, little-endian
//     0xFC0  port accesses: reads of 1, 2, 4, 8 bytes, then writes of 1, 2, 4, 8 bytes
//     0xFE0  page accesses: the same
// Specification: none but this paragraph. Accesses to the counters are not counted; any write there clears
// all sixteen. Missing: nothing. Ignored: nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/core/bus.h"

namespace vmm::legacy {

class Scratch {
 public:
  static constexpr uint64_t kPortBase = 0xE00;
  static constexpr uint64_t kPortSize = 16;
  static constexpr uint64_t kPageBase = 0xFEA00000;
  static constexpr uint64_t kPageSize = 0x1000;

  IoHandler& ports() { return ports_; }
  IoHandler& page() { return page_; }
  void reset();

 private:
  static constexpr size_t kCountersOffset = 0xFC0;
  using Counters = std::array<uint32_t, 8>;  // reads of 1, 2, 4, 8 bytes, writes of 1, 2, 4, 8

  struct State {
    std::array<std::byte, kPortSize> ports{};
    std::array<std::byte, kCountersOffset> page{};
    Counters port_accesses{};
    Counters page_accesses{};
  };

  class Ports final : public IoHandler {
   public:
    explicit Ports(Scratch& scratch) : scratch_{scratch} {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t offset, std::span<const std::byte> in) override;

   private:
    Scratch& scratch_;
  };
  class Page final : public IoHandler {
   public:
    explicit Page(Scratch& scratch) : scratch_{scratch} {}
    void read(uint64_t offset, std::span<std::byte> out) override;
    void write(uint64_t offset, std::span<const std::byte> in) override;

   private:
    Scratch& scratch_;
  };

  std::mutex mutex_;
  State state_;  // guarded by mutex_
  Ports ports_{*this};
  Page page_{*this};
};

}  // namespace vmm::legacy
