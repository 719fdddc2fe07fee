// SPDX-License-Identifier: Apache-2.0
//
// What the legacy devices hold, for their tests: a line, a console and a power sink that remember.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "devices/backend/console.h"
#include "vmm/core/bus.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/power.h"

namespace vmm::legacy {

struct FakeLine final : IrqLine {
  void set(bool to) override { level = to; }
  void pulse() override { ++pulses; }
  bool level = false;
  std::atomic<int> pulses = 0;
};

struct FakeConsole final : backend::Console {
  void write(std::span<const std::byte> bytes) override {
    for (const std::byte byte : bytes) output.push_back(static_cast<char>(byte));
  }
  void set_input(Input receiver) override { input = std::move(receiver); }
  void resume() override { ++resumes; }
  [[nodiscard]] backend::WindowSize window() const override { return {}; }
  void set_resize(std::function<void(backend::WindowSize)>) override {}
  [[nodiscard]] uint64_t dropped() const override { return 0; }

  size_t type(std::string_view text) { return input(std::as_bytes(std::span{text})); }

  std::string output;
  Input input;
  std::atomic<int> resumes = 0;
};

struct FakePower final : PowerSink {
  void request(PowerEvent event, std::string_view source, uint8_t status) override {
    events.push_back({event, std::string{source}, status});
  }
  struct Event {
    PowerEvent event;
    std::string source;
    uint8_t status;
  };
  std::vector<Event> events;
};

template <typename T>
T port_in(IoHandler& device, uint64_t offset) {
  T value{};
  std::memset(&value, 0xff, sizeof value);  // as the bus does
  device.read(offset, std::as_writable_bytes(std::span{&value, 1}));
  return value;
}

template <typename T>
void port_out(IoHandler& device, uint64_t offset, T value) {
  device.write(offset, std::as_bytes(std::span{&value, 1}));
}

// `times` random accesses of 1, 2 and 4 bytes that lie inside `size` ports, with a fixed seed.
inline void hammer(IoHandler& device, uint64_t size, int times) {
  std::mt19937 random(20250101);
  for (int i = 0; i < times; ++i) {
    const uint64_t width = std::min<uint64_t>(size, 1ULL << (random() % 3));
    const uint64_t offset = random() % (size - width + 1);
    const uint32_t value = static_cast<uint32_t>(random());
    std::byte bytes[4];
    std::memcpy(bytes, &value, sizeof bytes);
    if ((random() & 1) != 0) {
      device.write(offset, {bytes, width});
    } else {
      device.read(offset, {bytes, width});
    }
  }
}

}  // namespace vmm::legacy
