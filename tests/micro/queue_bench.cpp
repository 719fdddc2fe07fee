// SPDX-License-Identifier: Apache-2.0
//
// What a virtqueue costs: a batch of chains offered, taken off the ring and given back. The driver's part is
// two stores a chain.
#include <array>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "devices/virtio/queue.h"
#include "tests/unit/virtio/fake_ring.h"

namespace vmm::virtio {
namespace {

constexpr uint16_t kSize = 256;
constexpr Gpa kRing{0x1000};

enum class Table { direct, indirect };

// A chain as a disk driver builds it: header, data in `range(1)` pieces, status.
void pop_and_complete(benchmark::State& state, Table table) {
  const auto batch = static_cast<size_t>(state.range(0));
  const auto pieces = static_cast<size_t>(state.range(1));
  const GuestMemory memory = make_test_memory(64 << 20);
  FakeRing ring{memory, kRing, kSize};
  auto queue = Queue::create(memory, ring.config(), kFeatureEventIndex | kFeatureIndirect);
  if (!queue) return state.SkipWithError("the queue was refused");

  std::vector<FakeRing::Buffer> buffers{ring.readable("0123456789abcdef")};
  for (size_t i = 0; i < pieces; ++i) buffers.push_back(ring.writable(4096));
  buffers.push_back(ring.writable(1));
  // Tables and chains are offered again and again: the queue has given them all back.
  std::vector<uint16_t> heads;
  for (size_t i = 0; i < batch; ++i)
    heads.push_back(table == Table::indirect ? ring.add_indirect(buffers, buffers.size())
                                             : ring.add(buffers));

  bool offered = true;
  for (auto _ : state) {
    for (size_t i = 0; i < batch && !offered; ++i) ring.offer(heads[i]);
    for (size_t i = 0; i < batch; ++i) {
      auto chain = queue->pop();
      if (!chain || !*chain) return state.SkipWithError("no chain");
      queue->stage(std::move(**chain), 1);
    }
    queue->publish();
    benchmark::DoNotOptimize(queue->should_notify());
    offered = false;
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(pop_and_complete, direct, Table::direct)
    ->ArgNames({"batch", "pieces"})
    ->Args({1, 1})
    ->Args({32, 1});
BENCHMARK_CAPTURE(pop_and_complete, indirect, Table::indirect)
    ->ArgNames({"batch", "pieces"})
    ->Args({1, 1})
    ->Args({32, 1})
    ->Args({32, 16});

// The turn of an I/O loop that finds nothing, and goes to sleep.
void empty_turn(benchmark::State& state) {
  const GuestMemory memory = make_test_memory();
  const FakeRing ring{memory, kRing, kSize};
  auto queue = Queue::create(memory, ring.config(), kFeatureEventIndex);
  if (!queue) return state.SkipWithError("the queue was refused");
  for (auto _ : state) {
    queue->disable_doorbell();
    benchmark::DoNotOptimize(queue->pop());
    benchmark::DoNotOptimize(queue->enable_doorbell());
  }
}
BENCHMARK(empty_turn);

}  // namespace
}  // namespace vmm::virtio
