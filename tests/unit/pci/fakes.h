// SPDX-License-Identifier: Apache-2.0
//
// The wires of vmm/core/interrupt.h as a test sees them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "vmm/core/bus.h"
#include "vmm/core/fd.h"
#include "vmm/core/interrupt.h"
#include "vmm/core/readable_pages.h"

namespace vmm::pci {

struct FakeIrqLine final : IrqLine {
  void set(bool to) override {
    level = to;
    ++changes;
  }
  void pulse() override { ++pulses; }
  std::atomic<bool> level{false};
  std::atomic<int> changes{0};
  std::atomic<int> pulses{0};
};

// Counts what reaches the host. Calls of one vector come under its function's lock; those of the sink may
// not.
struct FakeMsiSink final : MsiSink {
  struct Vector final : MsiVector {
    explicit Vector(FakeMsiSink& of) : sink(of) {}
    Result<void> route(const MsiMessage& message) override {
      const std::lock_guard lock{sink.mutex};
      sink.routes.push_back(message);
      if (sink.refuse) return fail("no route left");
      routed = message;
      return {};
    }
    void signal() override {
      const std::lock_guard lock{sink.mutex};
      sink.delivered.push_back(routed);
    }
    void signal_with(EventLoop& /*loop*/) override { signal(); }
    Result<void> connect(const EventFd& bell) override {
      const std::lock_guard lock{sink.mutex};
      ++sink.connects;
      if (sink.refuse_bells) return fail("no bell wanted");
      EXPECT_TRUE(sink.connected.emplace(&bell, routed).second) << "connected twice";
      return {};
    }
    void disconnect(const EventFd& bell) override {
      const std::lock_guard lock{sink.mutex};
      EXPECT_EQ(sink.connected.erase(&bell), 1U) << "disconnected twice";
    }
    FakeMsiSink& sink;
    MsiMessage routed;
  };
  Result<std::unique_ptr<MsiVector>> create_vector() override {
    const std::lock_guard lock{mutex};
    if (refuse_vectors) return fail("no descriptor left");
    ++vectors;
    return std::make_unique<Vector>(*this);
  }
  bool was_delivered(const MsiMessage& message) {
    const std::lock_guard lock{mutex};
    return std::ranges::find(delivered, message) != delivered.end();
  }
  [[nodiscard]] bool has(const EventFd& bell) {
    const std::lock_guard lock{mutex};
    return connected.contains(&bell);
  }
  std::mutex mutex;
  int vectors = 0;
  int connects = 0;  // calls, granted or not
  bool refuse_bells = false;
  std::map<const EventFd*, MsiMessage> connected;  // and the route of then
  bool refuse = false;
  bool refuse_vectors = false;
  std::vector<MsiMessage> routes;     // calls, granted or not
  std::vector<MsiMessage> delivered;  // by the route of then
};

struct FakeDoorbells final : DoorbellSink {
  Result<void> bind(const DoorbellAddress& address, int event_fd) override {
    const std::lock_guard lock{mutex};
    if (refuse) return fail("no doorbell left");
    bound.emplace_back(address, event_fd);
    return {};
  }
  void unbind(const DoorbellAddress& address, int event_fd) override {
    const std::lock_guard lock{mutex};
    unknown += std::erase(bound, std::pair{address, event_fd}) == 1 ? 0 : 1;
  }
  void coalesce(Gpa base, uint64_t size) override {
    const std::lock_guard lock{mutex};
    coalesced.emplace_back(base.raw, size);
  }
  void uncoalesce(Gpa base, uint64_t size) override {
    const std::lock_guard lock{mutex};
    unknown += std::erase(coalesced, std::pair{base.raw, size}) == 1 ? 0 : 1;
  }
  std::mutex mutex;
  bool refuse = false;
  int unknown = 0;  // unbinds of what was not bound
  std::vector<std::pair<uint64_t, uint64_t>> coalesced;
  std::vector<std::pair<DoorbellAddress, int>> bound;
};

// What a guest could read without an exit.
struct FakePages final : ReadablePages {
  Result<void> show(Gpa base, std::span<std::byte> pages) override {
    if (refuse) return fail("no slot left");
    const std::lock_guard lock{mutex};
    EXPECT_TRUE(shown.emplace(base.raw, pages).second) << "shown twice";
    return {};
  }
  void hide(Gpa base) override {
    const std::lock_guard lock{mutex};
    EXPECT_EQ(shown.erase(base.raw), 1U) << "hidden twice";
  }
  [[nodiscard]] bool has(uint64_t base) {
    const std::lock_guard lock{mutex};
    return shown.contains(base);
  }
  template <typename T>
  [[nodiscard]] T read(uint64_t base, uint64_t offset) const {
    T value;
    std::memcpy(&value, shown.at(base).data() + offset, sizeof value);
    return value;
  }
  std::mutex mutex;
  bool refuse = false;
  std::map<uint64_t, std::span<std::byte>> shown;
};

// Registers that give their own offset and remember the last write.
struct FakeRegisters final : IoHandler {
  explicit FakeRegisters(uint8_t tag_) : tag(tag_) {}
  void read(uint64_t offset, std::span<std::byte> out) override {
    for (size_t i = 0; i < out.size(); ++i) out[i] = i == 0 ? std::byte{tag} : static_cast<std::byte>(offset);
  }
  void write(uint64_t offset, std::span<const std::byte> in) override {
    last_offset = offset;
    last_size = in.size();
  }
  uint8_t tag;
  uint64_t last_offset = ~0ULL;
  size_t last_size = 0;
};

template <typename T>
T read_as(IoHandler& handler, uint64_t offset) {
  T value = static_cast<T>(~T{0});
  handler.read(offset, std::as_writable_bytes(std::span{&value, 1}));
  return value;
}
template <typename T>
void write_as(IoHandler& handler, uint64_t offset, T value) {
  handler.write(offset, std::as_bytes(std::span{&value, 1}));
}
template <typename T>
T bus_read(Bus& bus, uint64_t address) {
  T value = 0;
  bus.read(address, std::as_writable_bytes(std::span{&value, 1}));
  return value;
}
template <typename T>
void bus_write(Bus& bus, uint64_t address, T value) {
  bus.write(address, std::as_bytes(std::span{&value, 1}));
}

}  // namespace vmm::pci
