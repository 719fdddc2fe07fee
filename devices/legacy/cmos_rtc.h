// SPDX-License-Identifier: Apache-2.0
//
// The real-time clock of the PC and the 128 bytes of memory beside it, behind an index port and a data port.
// The time is the host's, in UTC. The memory tells the size of RAM where a PC's BIOS leaves it for old
// kernels.
//
// Specification: Motorola MC146818A (1984); for the memory sizes and the century, IBM's and compatible
// BIOSes. Missing: alarm, periodic and update-ended interrupts (their enable bits do not stick), daylight
// saving. Ignored: setting the time, which is the host's; the NMI mask in bit 7 of the index.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>

#include "vmm/core/bus.h"

namespace vmm::legacy {

class CmosRtc final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 2;

  using Clock = std::function<std::chrono::system_clock::time_point()>;

  // Bytes of RAM below and above 4 GiB.
  CmosRtc(uint64_t low_ram, uint64_t high_ram, Clock clock = {});

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;
  void reset();

 private:
  struct State {
    uint8_t index = 0;
    std::array<uint8_t, 128> memory{};
  };

  [[nodiscard]] State power_on() const;
  [[nodiscard]] uint8_t read_data() const;
  void write_data(uint8_t value);
  [[nodiscard]] uint8_t time_register(uint8_t index) const;
  [[nodiscard]] bool update_in_progress() const;
  [[nodiscard]] uint8_t encode(int value) const;

  const uint64_t low_ram_;
  const uint64_t high_ram_;
  const Clock clock_;
  std::mutex mutex_;
  State state_;  // guarded by mutex_
};

}  // namespace vmm::legacy
