// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/queue.h"

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/virtio/fake_ring.h"

namespace vmm::virtio {
namespace {

constexpr uint64_t kEventIndex = kFeatureEventIndex;
constexpr uint64_t kIndirect = kFeatureIndirect;
constexpr uint64_t kMemory = 1 << 20;
constexpr uint16_t kSize = 4;
constexpr Gpa kBase{0x1000};

class QueueTest : public testing::Test {
 protected:
  // A new driver and a new device on cleared rings.
  void create(uint64_t features = kIndirect, uint16_t size = kSize) {
    memory_.slice(kBase, 0x4000)->zero();
    ring_ = FakeRing{memory_, kBase, size};
    auto queue = Queue::create(memory_, ring_.config(), features);
    ASSERT_TRUE(queue) << to_string(queue.error());
    queue_ = std::move(*queue);
  }
  Chain pop() {
    auto popped = queue_.pop();
    EXPECT_TRUE(popped && *popped);
    return std::move(popped->value());
  }
  bool empty() {
    const auto popped = queue_.pop();
    return popped && !*popped;
  }
  // The fault, and that it stays although the driver goes on as if nothing had been.
  void expect_fault(QueueFault fault) {
    for (int i = 0; i < 2; ++i) {
      const auto popped = queue_.pop();
      ASSERT_FALSE(popped) << "no fault";
      EXPECT_EQ(popped.error(), fault) << to_string(popped.error());
      ring_.add({ring_.readable("fine")});
    }
    EXPECT_FALSE(queue_.enable_doorbell());
  }
  // A chain that begins with `descriptor` at index 0.
  void expect_fault_of(const RingDescriptor& descriptor, QueueFault fault, uint64_t features = kIndirect) {
    create(features);
    ring_.set_descriptor(0, descriptor);
    ring_.offer(0);
    expect_fault(fault);
  }
  // An indirect table of `descriptors`, `skew` bytes off its alignment.
  Gpa table(std::span<const RingDescriptor> descriptors, uint64_t skew = 0) {
    const Gpa at{ring_.allocate(descriptors.size_bytes() + skew).raw + skew};
    EXPECT_TRUE(memory_.write(at, std::as_bytes(descriptors)));
    return at;
  }

  GuestMemory memory_ = make_test_memory(kMemory);
  FakeRing ring_{memory_, kBase, kSize};
  Queue queue_;
};

TEST_F(QueueTest, ChainHasItsTwoParts) {
  create();
  const auto answer = ring_.writable(3);
  const auto status = ring_.writable(1);
  const auto head = ring_.add({ring_.readable("he"), ring_.readable("llo"), answer, status});
  auto chain = pop();
  EXPECT_EQ(chain.head(), head);
  EXPECT_EQ(chain.readable_size(), 5U);
  EXPECT_EQ(chain.writable_size(), 4U);

  std::array<char, 3> middle{};
  EXPECT_TRUE(chain.copy_in(1, std::as_writable_bytes(std::span{middle})));
  EXPECT_EQ(std::string_view(middle.data(), 3), "ell");
  EXPECT_FALSE(chain.copy_in(3, std::as_writable_bytes(std::span{middle})));
  EXPECT_FALSE(chain.copy_in(SIZE_MAX, std::as_writable_bytes(std::span{middle})));

  EXPECT_TRUE(chain.copy_out(1, std::as_bytes(std::span{"abc", 3})));
  EXPECT_FALSE(chain.copy_out(2, std::as_bytes(std::span{"abc", 3})));
  EXPECT_EQ(ring_.bytes_at(answer.address, 3), std::string("\0ab", 3));
  EXPECT_EQ(ring_.bytes_at(status.address, 1), "c");

  std::vector<iovec> vectors;
  EXPECT_TRUE(chain.writable_iov(2, 2, vectors));
  ASSERT_EQ(vectors.size(), 2U);
  EXPECT_EQ(vectors[0].iov_len, 1U);
  EXPECT_EQ(vectors[1].iov_len, 1U);
  EXPECT_FALSE(chain.readable_iov(2, 4, vectors));
  EXPECT_EQ(vectors.size(), 2U);

  queue_.complete(std::move(chain), 4);
  const auto used = ring_.take_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, head);
  EXPECT_EQ(used->length, 4U);
  EXPECT_TRUE(empty());
}

TEST_F(QueueTest, CompletesOutOfOrder) {
  create();
  const auto first = ring_.add({ring_.readable("1")});
  const auto second = ring_.add({ring_.readable("2")});
  auto chain1 = pop();
  auto chain2 = pop();
  queue_.complete(std::move(chain2), 0);
  queue_.complete(std::move(chain1), 0);
  EXPECT_EQ(ring_.take_used()->id, second);
  EXPECT_EQ(ring_.take_used()->id, first);
}

TEST_F(QueueTest, StagedChainsAppearTogether) {
  create();
  const auto first = ring_.add({ring_.writable(4)});
  const auto second = ring_.add({ring_.writable(4)});
  queue_.stage(pop(), 4);
  queue_.stage(pop(), 2);
  EXPECT_EQ(ring_.used_index(), 0);
  queue_.publish();
  EXPECT_EQ(ring_.used_index(), 2);
  auto used = ring_.take_used();
  EXPECT_EQ(used->id, first);
  EXPECT_EQ(used->length, 4U);
  used = ring_.take_used();
  EXPECT_EQ(used->id, second);
  EXPECT_EQ(used->length, 2U);
  EXPECT_TRUE(queue_.should_notify());
}

TEST_F(QueueTest, IndicesWrapAt65536) {
  create(kIndirect | kEventIndex);
  const auto buffer = ring_.readable("x");
  for (uint32_t i = 0; i < 70'000; ++i) {
    ring_.set_used_event(static_cast<uint16_t>(i));
    ring_.add({buffer});
    queue_.complete(pop(), 0);
    ASSERT_TRUE(ring_.take_used());
    ASSERT_TRUE(queue_.should_notify()) << i;
  }
  EXPECT_TRUE(empty());
}

TEST_F(QueueTest, NotificationsFollowTheFlags) {
  create(0);
  const auto buffer = ring_.readable("x");
  EXPECT_FALSE(queue_.should_notify());  // nothing was completed
  ring_.add({buffer});
  queue_.complete(pop(), 0);
  EXPECT_TRUE(queue_.should_notify());
  EXPECT_FALSE(queue_.should_notify());
  ring_.set_available_flags(kAvailableNoInterrupt);
  ring_.add({buffer});
  queue_.complete(pop(), 0);
  EXPECT_FALSE(queue_.should_notify());

  queue_.disable_doorbell();
  EXPECT_EQ(ring_.used_flags(), kUsedNoNotify);
  ring_.add({buffer});
  EXPECT_TRUE(queue_.enable_doorbell());  // it came while the bell was off
  EXPECT_EQ(ring_.used_flags(), 0);
  queue_.complete(pop(), 0);
  EXPECT_FALSE(queue_.enable_doorbell());
}

TEST_F(QueueTest, NotificationsFollowUsedEvent) {
  create(kEventIndex);
  const auto buffer = ring_.readable("x");
  ring_.set_available_flags(kAvailableNoInterrupt);  // counts for nothing with EVENT_IDX
  ring_.set_used_event(2);                           // after the third
  for (const bool expected : {false, false, true, false}) {
    ring_.add({buffer});
    queue_.complete(pop(), 0);
    EXPECT_EQ(queue_.should_notify(), expected);
  }
  ring_.set_used_event(5);  // passed within a batch
  for (int i = 0; i < 3; ++i) {
    ring_.add({buffer});
    queue_.complete(pop(), 0);
  }
  EXPECT_TRUE(queue_.should_notify());
}

TEST_F(QueueTest, DoorbellFollowsAvailableEvent) {
  create(kEventIndex);
  const auto buffer = ring_.readable("x");
  EXPECT_FALSE(queue_.enable_doorbell());
  EXPECT_EQ(ring_.available_event(), 0);
  queue_.disable_doorbell();
  EXPECT_EQ(ring_.used_flags(), 0);
  ring_.add({buffer});
  ring_.add({buffer});
  EXPECT_TRUE(queue_.enable_doorbell());
  pop();
  pop();
  EXPECT_FALSE(queue_.enable_doorbell());
  EXPECT_EQ(ring_.available_event(), 2);
}

TEST_F(QueueTest, IndirectChains) {
  create(kIndirect, 8);
  const std::array buffers{ring_.readable("ab"), ring_.readable("cd"), ring_.writable(4)};
  for (const size_t indirect : {1U, 2U, 3U}) {  // direct ones before the table are allowed
    ring_.add_indirect(buffers, indirect);
    auto chain = pop();
    EXPECT_EQ(chain.readable_size(), 4U);
    EXPECT_EQ(chain.writable_size(), 4U);
    queue_.complete(std::move(chain), 0);
  }
  // As long as the queue, which is the longest allowed.
  const std::vector longest(8, ring_.readable("x"));
  ring_.add_indirect(longest, 8);
  EXPECT_EQ(pop().readable_size(), 8U);
}

TEST_F(QueueTest, UnalignedIndirectTableWithWriteFlagWorks) {
  create();
  const auto buffer = ring_.readable("ab");
  const std::array descriptors{RingDescriptor{buffer.address.raw, 2, 0, 0}};
  ring_.set_descriptor(
      0, {table(descriptors, 1).raw, 16, RingDescriptor::kIndirect | RingDescriptor::kWrite, 0});
  ring_.offer(0);
  EXPECT_EQ(pop().readable_size(), 2U);
}

// HG01
TEST_F(QueueTest, LoopsAreTooLong) {
  expect_fault_of({0x8000, 1, RingDescriptor::kNext, 0}, QueueFault::chain_too_long);
  create();
  ring_.set_descriptor(0, {0x8000, 1, RingDescriptor::kNext, 1});
  ring_.set_descriptor(1, {0x8000, 1, RingDescriptor::kNext, 0});
  ring_.offer(0);
  expect_fault(QueueFault::chain_too_long);
  create();
  for (uint16_t i = 0; i < kSize; ++i) {
    ring_.set_descriptor(i, {0x8000, 1, RingDescriptor::kNext, static_cast<uint16_t>((i + 1) % kSize)});
  }
  ring_.offer(0);
  expect_fault(QueueFault::chain_too_long);
  create();  // empty buffers cost as much
  ring_.set_descriptor(0, {0, 0, RingDescriptor::kNext, 0});
  ring_.offer(0);
  expect_fault(QueueFault::chain_too_long);
}

// HG02
TEST_F(QueueTest, IndirectChainLongerThanTheQueue) {
  create();
  const std::vector buffers(kSize + 1, ring_.readable("x"));
  ring_.add_indirect(buffers, buffers.size());
  expect_fault(QueueFault::chain_too_long);

  create();
  std::vector<RingDescriptor> many(16'000, RingDescriptor{0x8000, 1, RingDescriptor::kNext, 0});
  for (size_t i = 0; i < many.size(); ++i) many[i].next = static_cast<uint16_t>(i + 1);
  ring_.set_descriptor(0, {table(many).raw, 16 * 16'000, RingDescriptor::kIndirect, 0});
  ring_.offer(0);
  expect_fault(QueueFault::chain_too_long);
}

// HG03
TEST_F(QueueTest, IndexesOutsideTheirTable) {
  for (const uint16_t head : {kSize, uint16_t{0xFFFF}}) {
    create();
    ring_.offer(head);
    expect_fault(QueueFault::head_out_of_range);
  }
  for (const uint16_t next : {kSize, uint16_t{0xFFFF}}) {
    expect_fault_of({0x8000, 1, RingDescriptor::kNext, next}, QueueFault::next_out_of_range);
  }
  create();  // in the ring's range, but not in the indirect table's
  const std::array descriptors{RingDescriptor{0x8000, 1, RingDescriptor::kNext, 1}};
  ring_.set_descriptor(0, {table(descriptors).raw, 16, RingDescriptor::kIndirect, 0});
  ring_.offer(0);
  expect_fault(QueueFault::next_out_of_range);
}

// HG04, HG05, HG06
TEST_F(QueueTest, BuffersOutsideMemory) {
  expect_fault_of({kMemory, 1, 0, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({kMemory - 1, 2, 0, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({0xC000'0000, 4096, RingDescriptor::kWrite, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({UINT64_MAX - 15, 32, 0, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({UINT64_MAX - 15, 16, 0, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({0, UINT32_MAX, 0, 0}, QueueFault::buffer_outside_memory);
  create();  // address 0 is RAM like any other
  ring_.set_descriptor(0, {0, 16, 0, 0});
  ring_.offer(0);
  EXPECT_EQ(pop().readable_size(), 16U);
}

TEST_F(QueueTest, BufferOverTheHole) {
  const std::array ranges{GuestMemory::Range{Gpa{0}, 0x10000}, GuestMemory::Range{Gpa{0x20000}, 0x10000}};
  memory_ = GuestMemory::create(ranges).value();
  expect_fault_of({0xF000, 0x12000, 0, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({0x1F000, 0x1000, 0, 0}, QueueFault::buffer_outside_memory);
  create();
  ring_.set_descriptor(0, {0x20000, 0x10000, 0, 0});
  ring_.offer(0);
  EXPECT_EQ(pop().readable_size(), 0x10000U);
}

// HG07
TEST_F(QueueTest, EmptyBuffersMoveNothing) {
  const FakeRing::Buffer nothing{Gpa{UINT64_MAX}, 0, false};
  const FakeRing::Buffer no_room{Gpa{UINT64_MAX}, 0, true};
  create();
  const auto text = ring_.readable("ab");
  const auto room = ring_.writable(2);
  const std::array<std::vector<FakeRing::Buffer>, 4> chains{
      {{nothing, text, room}, {text, nothing, room}, {text, no_room, room}, {text, room, no_room}}};
  for (const auto& buffers : chains) {
    ring_.add(buffers);
    auto chain = pop();
    EXPECT_EQ(chain.readable_size(), 2U);
    EXPECT_EQ(chain.writable_size(), 2U);
    std::vector<iovec> vectors;
    EXPECT_TRUE(chain.writable_iov(0, 2, vectors));
    EXPECT_EQ(vectors.size(), 1U);
    queue_.complete(std::move(chain), 0);
  }
  ring_.set_descriptor(0, {});
  ring_.offer(0);
  EXPECT_EQ(pop().readable_size(), 0U);
}

// HG08
TEST_F(QueueTest, LengthsSumTo32Bits) {
  // Reserved, not touched: overlapping buffers make a sum beyond RAM.
  memory_ = make_test_memory(1ULL << 30);
  create(kIndirect, 8);
  const FakeRing::Buffer gibibyte{Gpa{0}, 1U << 30, false};
  const FakeRing::Buffer almost{Gpa{0}, (1U << 30) - 1, true};
  ring_.add({gibibyte, gibibyte, gibibyte, almost});
  EXPECT_EQ(pop().readable_size(), 3ULL << 30);
  ring_.add({gibibyte, gibibyte, gibibyte, gibibyte});
  expect_fault(QueueFault::length_overflow);
}

// HG09, as far as the ring can tell
TEST_F(QueueTest, ReadableAfterWritable) {
  create();
  ring_.add({ring_.writable(1), ring_.readable("x")});
  expect_fault(QueueFault::writable_before_readable);
}

// HG11, HG12
TEST_F(QueueTest, BadIndirect) {
  const auto indirect = [](uint32_t length, unsigned flags = 0) {
    return RingDescriptor{0x8000, length, static_cast<uint16_t>(RingDescriptor::kIndirect | flags), 1};
  };
  expect_fault_of(indirect(16), QueueFault::bad_indirect, 0);
  expect_fault_of(indirect(16, RingDescriptor::kNext), QueueFault::bad_indirect);
  for (const uint32_t length : {0U, 15U, 17U}) expect_fault_of(indirect(length), QueueFault::bad_indirect);
  expect_fault_of({kMemory - 16, 32, RingDescriptor::kIndirect, 0}, QueueFault::buffer_outside_memory);
  expect_fault_of({kMemory, 16, RingDescriptor::kIndirect, 0}, QueueFault::buffer_outside_memory);
  create();
  const std::array nested{indirect(16)};
  ring_.set_descriptor(0, {table(nested).raw, 16, RingDescriptor::kIndirect, 0});
  ring_.offer(0);
  expect_fault(QueueFault::bad_indirect);
}

// HG13
TEST_F(QueueTest, AvailableIndexOutOfRange) {
  for (const uint16_t index : {uint16_t{kSize + 1}, uint16_t{0xFFFF}, uint16_t{0x8000}}) {
    create();
    ring_.set_available_index(index);
    const auto popped = queue_.pop();
    ASSERT_FALSE(popped);
    EXPECT_EQ(popped.error(), QueueFault::too_many_available);
  }
}

// HG14
TEST_F(QueueTest, HeadInFlight) {
  create();
  const auto head = ring_.add({ring_.readable("x")});
  ring_.offer(head);
  const auto chain = pop();
  expect_fault(QueueFault::head_in_flight);
  EXPECT_EQ(chain.readable_size(), 1U);
}

TEST_F(QueueTest, HeadMayComeAgainOnceUsed) {
  create();
  const auto head = ring_.add({ring_.readable("x")});
  for (int i = 0; i < 10; ++i) {
    queue_.complete(pop(), 0);
    ring_.offer(head);
  }
  EXPECT_EQ(pop().head(), head);
}

// HG15. Under the thread sanitizer the race, which is the guest's and not ours, would be reported.
#ifndef __SANITIZE_THREAD__
TEST_F(QueueTest, RewritingDescriptorsWhileTheyAreRead) {
  create(kIndirect | kEventIndex, 8);
  std::atomic<bool> stop{false};
  std::jthread other_vcpu{[&] {
    uint32_t random = 1;
    while (!stop) {
      random = random * 1664525 + 1013904223;
      ring_.set_descriptor(
          static_cast<uint16_t>(random >> 8 & 7),
          {random % (2 * kMemory), random >> 4 & 0xFFFF, static_cast<uint16_t>(random >> 16 & 7),
           static_cast<uint16_t>(random >> 20 & 15)});
    }
  }};
  uint32_t good = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{500};
  for (uint32_t round = 0; std::chrono::steady_clock::now() < end; ++round) {
    const auto head = static_cast<uint16_t>(round % 8);
    ring_.offer(head);
    auto popped = queue_.pop();
    if (!popped) {  // the reset that follows a fault
      ring_.set_available_index(0);
      queue_ = Queue::create(memory_, ring_.config(), kIndirect | kEventIndex).value();
      continue;
    }
    if (!*popped) continue;
    ++good;
    std::vector<iovec> vectors;
    EXPECT_TRUE((*popped)->writable_iov(0, (*popped)->writable_size(), vectors));
    queue_.complete(std::move(**popped), 0);
  }
  stop = true;
  EXPECT_GT(good, 0U);
}
#endif

// HG16
TEST_F(QueueTest, ScribblesOverTheUsedRingAreOverwritten) {
  create();
  ring_.add({ring_.readable("1")});
  ring_.add({ring_.readable("2")});
  queue_.complete(pop(), 0);
  std::array<uint8_t, 6 + 8 * kSize> junk;
  junk.fill(0xA5);
  EXPECT_TRUE(memory_.write(ring_.config().used, std::as_bytes(std::span{junk})));
  queue_.complete(pop(), 0);
  EXPECT_EQ(ring_.used_index(), 2);
}

// HG17: whatever used_event says, it decides about one notification and nothing else.
TEST_F(QueueTest, PoisonedUsedEvent) {
  create(kEventIndex);
  const auto buffer = ring_.readable("x");
  for (const uint16_t event : {uint16_t{0xFFFF}, uint16_t{0x8000}, uint16_t{0x7FFF}}) {
    ring_.set_used_event(event);
    ring_.add({buffer});
    queue_.complete(pop(), 0);
    EXPECT_FALSE(queue_.should_notify());
  }
}

// HG18
TEST_F(QueueTest, OverlappingRingsHarmOnlyTheDriver) {
  auto config = ring_.config();
  config.available = config.used = config.descriptors;
  queue_ = Queue::create(memory_, config, kIndirect).value();
  for (int i = 0; i < 100; ++i) {
    auto popped = queue_.pop();
    if (!popped || !*popped) break;
    queue_.complete(std::move(**popped), 0);
  }

  create();  // the ring itself as a buffer
  ring_.add({{ring_.config().used, 6 + 8 * kSize, true}});
  auto chain = pop();
  const std::array<std::byte, 6 + 8 * kSize> zeros{};
  EXPECT_TRUE(chain.copy_out(0, zeros));
  queue_.complete(std::move(chain), zeros.size());
  EXPECT_EQ(ring_.used_index(), 1);
}

// HG19
TEST_F(QueueTest, RingsOutsideMemory) {
  const auto refused = [&](auto change) {
    auto config = ring_.config();
    change(config);
    const auto queue = Queue::create(memory_, config, 0);
    return !queue && queue.error() == QueueFault::ring_outside_memory;
  };
  EXPECT_FALSE(refused([](QueueConfig&) {}));
  EXPECT_TRUE(refused([](QueueConfig& c) { c.descriptors.raw += 8; }));
  EXPECT_TRUE(refused([](QueueConfig& c) { c.available.raw += 1; }));
  EXPECT_TRUE(refused([](QueueConfig& c) { c.used.raw += 2; }));
  for (const uint64_t bad : {kMemory, kMemory - 16, uint64_t{0xFEB0'0000}, UINT64_MAX - 15}) {
    EXPECT_TRUE(refused([&](QueueConfig& c) { c.descriptors.raw = bad; })) << bad;
    EXPECT_TRUE(refused([&](QueueConfig& c) { c.used.raw = bad; })) << bad;
  }
  EXPECT_TRUE(refused([](QueueConfig& c) { c.available.raw = kMemory - 4 - 2 * kSize; }));
  // Exactly at the end of RAM is inside it.
  EXPECT_FALSE(refused([](QueueConfig& c) { c.available.raw = kMemory - 6 - 2 * kSize; }));
}

}  // namespace
}  // namespace vmm::virtio
