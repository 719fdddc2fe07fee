// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/debug_ports.h"

namespace vmm::legacy {

void MarkerPort::write(uint64_t /*offset*/, std::span<const std::byte> in) {
  if (in.empty()) return;
  const Mark mark{std::to_integer<uint8_t>(in[0]), std::chrono::steady_clock::now()};
  {
    const std::lock_guard lock(mutex_);
    if (marks_.size() == kMost) {
      ++dropped_;
      return;
    }
    marks_.push_back(mark);
  }
  if (marked_) marked_(mark);
}

std::vector<MarkerPort::Mark> MarkerPort::marks() const {
  const std::lock_guard lock(mutex_);
  return marks_;
}

uint64_t MarkerPort::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

void DebugConsole::read(uint64_t /*offset*/, std::span<std::byte> out) {
  if (!out.empty()) out[0] = std::byte{0xe9};
}

void DebugConsole::write(uint64_t /*offset*/, std::span<const std::byte> in) {
  if (!in.empty()) console_.write(in.first(1));
}

void DebugExit::read(uint64_t /*offset*/, std::span<std::byte> out) {
  for (std::byte& byte : out) byte = std::byte{0};
}

void DebugExit::write(uint64_t /*offset*/, std::span<const std::byte> in) {
  if (in.empty()) return;
  const auto value = std::to_integer<unsigned>(in[0]);
  power_.request(PowerEvent::debug_exit, "debug exit port", static_cast<uint8_t>(value << 1 | 1));
}

}  // namespace vmm::legacy
