// SPDX-License-Identifier: Apache-2.0
//
// The bounds check of guest memory, and copies through it.
#include <array>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "vmm/core/guest_memory.h"

namespace vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Two regions, as a machine with a hole below 4 GiB has.
GuestMemory make_memory() {
  const std::array<GuestMemory::Range, 2> ranges{{{Gpa{0}, 64 * kMiB}, {Gpa{4096 * kMiB}, 64 * kMiB}}};
  auto memory = GuestMemory::create(ranges);
  if (!memory) std::abort();
  return std::move(*memory);
}

void slice(benchmark::State& state) {
  const GuestMemory memory = make_memory();
  const auto base = static_cast<uint64_t>(state.range(0));
  uint64_t turn = 0;
  for (auto _ : state) benchmark::DoNotOptimize(memory.slice(Gpa{base + (turn++ & 0xfff) * 4096}, 4096));
}
BENCHMARK(slice)->ArgName("base")->Arg(0)->Arg(4096LL * kMiB);

void load(benchmark::State& state) {
  const GuestMemory memory = make_memory();
  uint64_t turn = 0;
  for (auto _ : state) benchmark::DoNotOptimize(memory.load<uint64_t>(Gpa{(turn++ & 0xfff) * 8}));
}
BENCHMARK(load);

void write(benchmark::State& state) {
  const GuestMemory memory = make_memory();
  const std::vector<std::byte> bytes(static_cast<size_t>(state.range(0)), std::byte{1});
  uint64_t turn = 0;
  for (auto _ : state) benchmark::DoNotOptimize(memory.write(Gpa{(turn++ & 0xff) * 65536}, bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(write)->ArgName("bytes")->Arg(64)->Arg(4096)->Arg(65536);

}  // namespace
}  // namespace vmm
