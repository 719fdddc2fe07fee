// SPDX-License-Identifier: Apache-2.0
//
// What it costs to find the device of an access, with as many ranges as a machine has.
#include <array>
#include <cstdint>
#include <memory>

#include <benchmark/benchmark.h>

#include "vmm/core/bus.h"

namespace vmm {
namespace {

constexpr uint64_t kBase = 0xc000'0000;
constexpr uint64_t kStep = 0x4000;

class Register final : public IoHandler {
 public:
  void read(uint64_t offset, std::span<std::byte> out) override { out[0] = std::byte(offset); }
  void write(uint64_t offset, std::span<const std::byte> in) override {
    benchmark::DoNotOptimize(offset);
    benchmark::DoNotOptimize(in.data());
  }
};

// One bus for all threads: a machine's vCPUs share theirs.
class BusBench : public benchmark::Fixture {
 public:
  void SetUp(benchmark::State& state) override {
    if (state.thread_index() != 0) return;
    bus = std::make_unique<Bus>();
    for (uint64_t i = 0; i < static_cast<uint64_t>(state.range(0)); ++i) {
      if (!bus->map(kBase + i * kStep, 0x1000, device, "device"))
        state.SkipWithError("the range was refused");
    }
  }
  void TearDown(benchmark::State& state) override {
    if (state.thread_index() == 0) bus.reset();
  }

  Register device;
  std::unique_ptr<Bus> bus;
};

BENCHMARK_DEFINE_F(BusBench, write)(benchmark::State& state) {
  const std::array<std::byte, 4> value{};
  const uint64_t count = static_cast<uint64_t>(state.range(0));
  uint64_t turn = 0;
  for (auto _ : state) bus->write(kBase + (turn++ % count) * kStep + 0x10, value);
}
BENCHMARK_REGISTER_F(BusBench, write)->ArgName("ranges")->Arg(4)->Arg(32)->Threads(1)->Threads(2);

BENCHMARK_DEFINE_F(BusBench, read)(benchmark::State& state) {
  std::array<std::byte, 4> value{};
  const uint64_t count = static_cast<uint64_t>(state.range(0));
  uint64_t turn = 0;
  for (auto _ : state) {
    bus->read(kBase + (turn++ % count) * kStep + 0x10, value);
    benchmark::DoNotOptimize(value);
  }
}
BENCHMARK_REGISTER_F(BusBench, read)->ArgName("ranges")->Arg(32);

BENCHMARK_DEFINE_F(BusBench, nobody)(benchmark::State& state) {
  std::array<std::byte, 4> value{};
  for (auto _ : state) bus->read(kBase - kStep, value);
}
BENCHMARK_REGISTER_F(BusBench, nobody)->ArgName("ranges")->Arg(32);

}  // namespace
}  // namespace vmm
