// SPDX-License-Identifier: Apache-2.0
//
// Three ports for people who write or measure guests. Each is a byte wide in its meaning, whatever the
// access.
//
//   MarkerPort    a byte written marks a named point in the guest's start, and the time is taken. Always
//   there. DebugConsole  each byte written goes to a console; reads 0xE9, by which a guest finds it (Bochs'
//   port 0xE9). DebugExit     ends the run with a status (QEMU's isa-debug-exit).
//
// Specification: this paragraph; for the last two the emulators they come from.
// Missing: nothing. Ignored: marks beyond the first MarkerPort::kMost, which are counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "devices/backend/console.h"
#include "vmm/core/bus.h"
#include "vmm/core/power.h"

namespace vmm::legacy {

class MarkerPort final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 1;
  static constexpr size_t kMost = 64;

  struct Mark {
    uint8_t value = 0;
    std::chrono::steady_clock::time_point time;
  };

  // `marked`, if any, is told each mark that is kept, on the vCPU's thread. It must not block.
  explicit MarkerPort(std::function<void(const Mark&)> marked = {}) : marked_(std::move(marked)) {}

  void read(uint64_t /*offset*/, std::span<std::byte> /*out*/) override {}  // as if nothing were there
  void write(uint64_t offset, std::span<const std::byte> in) override;

  // In the order they were given; a reset of the guest does not clear them.
  [[nodiscard]] std::vector<Mark> marks() const;
  [[nodiscard]] uint64_t dropped() const;

 private:
  const std::function<void(const Mark&)> marked_;
  mutable std::mutex mutex_;
  std::vector<Mark> marks_;  // guarded by mutex_
  uint64_t dropped_ = 0;     // guarded by mutex_
};

class DebugConsole final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 1;

  explicit DebugConsole(backend::Console& console) : console_(console) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

 private:
  backend::Console& console_;
};

class DebugExit final : public IoHandler {
 public:
  static constexpr uint64_t kPorts = 4;  // kernels write it as byte, word or dword

  explicit DebugExit(PowerSink& power) : power_(power) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  // Requests debug_exit with status (value << 1) | 1, which is the exit code of the process: never 0, so that
  // no guest is taken for one that powered off.
  void write(uint64_t offset, std::span<const std::byte> in) override;

 private:
  PowerSink& power_;
};

}  // namespace vmm::legacy
