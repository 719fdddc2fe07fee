// SPDX-License-Identifier: Apache-2.0
//
// The network device with several pairs of queues.

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "devices/virtio/net.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"
#include "tests/unit/virtio/fake_net.h"

namespace vmm::virtio {
namespace {

constexpr size_t kPairs = 3;
constexpr uint16_t kControl = 2 * kPairs;
constexpr uint32_t kHeader = sizeof(backend::VnetHeader);

uint16_t receive_queue(size_t pair) {
  return static_cast<uint16_t>(2 * pair);
}
uint16_t transmit_queue(size_t pair) {
  return static_cast<uint16_t>(2 * pair + 1);
}

std::string set_pairs(unsigned count) {
  return {NetCommand::kMultiQueue, NetCommand::kSetPairs, static_cast<char>(count & 0xFF),
          static_cast<char>(count >> 8)};
}

// Pairs on one loop, or each on its own.
class NetQueuesTest : public testing::TestWithParam<bool> {
 protected:
  NetQueuesTest() {
    for (size_t i = 1; i < kPairs; ++i) network_.more.push_back(std::make_unique<FakeNet>());
    for (size_t i = 0; i < kPairs; ++i) loops_[i] = &*threads_[GetParam() ? i : 0];
    net_.emplace(loops_, network_, backend::MacAddress{}, "net0");
    driver_.emplace(*net_, memory_);
  }
  FakeNet& fake(size_t pair) {
    return pair == 0 ? network_ : static_cast<FakeNet&>(*network_.more[pair - 1]);
  }
  void on_loop(size_t pair, const std::function<void()>& work) { loops_[pair]->call(work); }

  // The answer to a command of these bytes, in so many buffers.
  uint8_t command(std::string_view bytes, uint16_t queue = kControl, size_t first = 1) {
    auto& ring = driver_->ring(queue);
    std::vector<FakeRing::Buffer> buffers;
    if (!bytes.empty()) buffers.push_back(ring.readable(bytes.substr(0, first)));
    if (bytes.size() > first) buffers.push_back(ring.readable(bytes.substr(first)));
    const auto status = ring.writable(1);
    memory_.slice(status.address, 1)->copy_out(std::array{std::byte{0x55}});
    buffers.push_back(status);
    const auto used = driver_->request(queue, buffers);
    EXPECT_EQ(used.length, 1U);
    return static_cast<uint8_t>(ring.bytes_at(status.address, 1)[0]);
  }
  void add_frame(size_t pair) {
    auto& ring = driver_->ring(transmit_queue(pair));
    ring.add({ring.readable(std::string(kHeader, '\0') + std::string(60, 'f'))});
    driver_->notify(transmit_queue(pair));
  }
  void add_buffers(size_t pair, int count) {
    auto& ring = driver_->ring(receive_queue(pair));
    for (int i = 0; i < count; ++i) ring.add({ring.writable(1600)});
    driver_->notify(receive_queue(pair));
  }
  void arrive(size_t pair) {
    on_loop(pair, [&] { fake(pair).arrive(std::string(60, 'f')); });
  }
  void settle() {
    for (int i = 0; i < 3; ++i) {
      for (size_t pair = 0; pair < kPairs; ++pair) on_loop(pair, [] {});
    }
  }
  bool running(size_t pair) {
    bool is = false;
    on_loop(pair, [&] { is = fake(pair).running(); });
    return is;
  }

  std::array<LoopThread, kPairs> threads_;
  std::array<EventLoop*, kPairs> loops_{};
  GuestMemory memory_ = make_test_memory(16 << 20);
  FakeNet network_;
  std::optional<Net> net_;
  std::optional<FakeDriver> driver_;
};

TEST_P(NetQueuesTest, OffersWhatThereIs) {
  constexpr uint64_t kBoth = net_feature::kControlQueue | net_feature::kMultiQueue;
  EXPECT_EQ(driver_->offered() & kBoth, kBoth);
  EXPECT_EQ(driver_->core->queue_count(), 2 * kPairs + 1);
  uint16_t most = 0;
  driver_->core->read_config(offsetof(NetConfig, queue_pairs), std::as_writable_bytes(std::span{&most, 1}));
  EXPECT_EQ(most, kPairs);

  FakeNet single;
  const Net plain{std::span{loops_}.first(1), single, {}, "net1"};
  EXPECT_EQ(plain.features() & kBoth, 0U);
  EXPECT_EQ(plain.queue_sizes().size(), 2U);
}

TEST_P(NetQueuesTest, OnePairUntilTheDriverAsksForMore) {
  driver_->start();
  for (size_t pair = 0; pair < kPairs; ++pair) {
    add_frame(pair);
    add_buffers(pair, 4);
  }
  driver_->wait_used(transmit_queue(0));
  settle();
  for (size_t pair = 1; pair < kPairs; ++pair) {
    EXPECT_FALSE(running(pair)) << pair;
    EXPECT_EQ(driver_->ring(transmit_queue(pair)).used_index(), 0) << pair;
  }
  EXPECT_EQ(command(set_pairs(kPairs)), NetCommand::kOk);
  for (size_t pair = 0; pair < kPairs; ++pair) EXPECT_TRUE(running(pair)) << pair;  // when it was answered
  for (size_t pair = 1; pair < kPairs; ++pair) driver_->wait_used(transmit_queue(pair));
  for (size_t pair = 0; pair < kPairs; ++pair) {
    arrive(pair);
    driver_->wait_used(receive_queue(pair));
    on_loop(pair, [&] { EXPECT_EQ(fake(pair).sent.size(), 1U) << pair; });
  }
  EXPECT_EQ(net_->sent().frames, kPairs);
  EXPECT_EQ(net_->received().frames, kPairs);
}

TEST_P(NetQueuesTest, BuffersOfAPairThatIsNotUsedStayThere) {
  driver_->start();
  ASSERT_EQ(command(set_pairs(2)), NetCommand::kOk);
  add_buffers(1, 2);
  arrive(1);
  driver_->wait_used(receive_queue(1));
  ASSERT_EQ(command(set_pairs(1)), NetCommand::kOk);
  EXPECT_FALSE(running(1));
  add_frame(1);
  arrive(1);
  settle();
  EXPECT_EQ(driver_->ring(receive_queue(1)).used_index(), 1);
  EXPECT_EQ(driver_->ring(transmit_queue(1)).used_index(), 0);
  ASSERT_EQ(command(set_pairs(3)), NetCommand::kOk);
  driver_->wait_used(receive_queue(1));  // into the buffer of before
  driver_->wait_used(transmit_queue(1));
  EXPECT_EQ(command(set_pairs(3)), NetCommand::kOk);  // again, to no effect
}

TEST_P(NetQueuesTest, CommandsThatCannotBeFollowed) {
  driver_->start();
  const std::string pairs = set_pairs(2);
  for (const auto& bytes :
       {set_pairs(0), set_pairs(kPairs + 1), set_pairs(0x8000), set_pairs(0xFFFF), set_pairs(0x200),
        std::string{}, pairs.substr(0, 1), pairs.substr(0, 2), pairs.substr(0, 3),
        std::string{"\x04\x01\x02\x00", 4}, std::string{"\x00\x00\x01", 3},
        std::string{"\x05\x00\x00\x00", 4}, std::string(4, '\xFF'), std::string(5000, '\x04')}) {
    EXPECT_EQ(command(bytes), NetCommand::kError) << testing::PrintToString(bytes.substr(0, 8));
    EXPECT_FALSE(running(1));
  }
  EXPECT_EQ(command(pairs, kControl, 3), NetCommand::kOk);  // however it is cut up
  EXPECT_EQ(command(pairs + "and more", kControl, 2), NetCommand::kOk);
  EXPECT_FALSE(driver_->needs_reset());
}

TEST_P(NetQueuesTest, ManyCommandsAtOnceAreAnsweredInOrder) {
  driver_->start();
  auto& ring = driver_->ring(kControl);
  std::vector<uint16_t> heads;
  for (unsigned i = 0; i < 20; ++i)
    heads.push_back(ring.add({ring.readable(set_pairs(i % 5)), ring.writable(1)}));
  driver_->notify(kControl);
  for (const auto head : heads) EXPECT_EQ(driver_->wait_used(kControl).id, head);
  EXPECT_TRUE(running(0));
  EXPECT_TRUE(running(2));  // 3 was the last of them that there can be
}

TEST_P(NetQueuesTest, ACommandWithoutRoomForItsAnswerBreaksTheDriver) {
  driver_->start();
  auto& ring = driver_->ring(kControl);
  ring.add({ring.readable(set_pairs(2))});
  driver_->notify(kControl);
  EXPECT_TRUE(driver_->wait_needs_reset());
  driver_->core->reset();
  driver_->start();
  EXPECT_EQ(command(set_pairs(2)), NetCommand::kOk);
}

TEST_P(NetQueuesTest, ADriverOfOnePairHasItsControlQueueBehindThat) {
  const auto features = driver_->offered() & ~net_feature::kMultiQueue;
  driver_->start(features, 64);
  EXPECT_EQ(command(set_pairs(2), 2), NetCommand::kError);
  EXPECT_EQ(command(set_pairs(1), 2), NetCommand::kError);
  add_frame(2);
  driver_->notify(kControl);
  settle();
  for (size_t pair = 1; pair < kPairs; ++pair) EXPECT_FALSE(running(pair));
  add_frame(0);
  driver_->wait_used(transmit_queue(0));
  driver_->core->reset();

  driver_->start(features & ~net_feature::kControlQueue, 64);
  auto& ring = driver_->ring(kControl);
  ring.add({ring.readable(set_pairs(2)), ring.writable(1)});
  driver_->notify(kControl);
  settle();
  EXPECT_EQ(ring.used_index(), 0);
}

TEST_P(NetQueuesTest, PairsWithoutRingsAreRefused) {
  ASSERT_TRUE(driver_->negotiate(driver_->offered()));
  driver_->rings.clear();
  for (uint16_t queue = 0; queue <= kControl; ++queue) {
    const Gpa base{0x10000 + queue * 0x100000ULL};
    memory_.slice(base, 0x4000)->zero();
    driver_->rings.emplace_back(memory_, base, 64);
    if (queue != receive_queue(2)) driver_->set_up_queue(queue, driver_->rings.back().config());
  }
  driver_->core->set_status(driver_->core->status() | 4);  // DRIVER_OK
  EXPECT_EQ(command(set_pairs(3)), NetCommand::kError);
  EXPECT_EQ(command(set_pairs(2)), NetCommand::kOk);
}

TEST_P(NetQueuesTest, AFaultInOnePairStopsAll) {
  driver_->start();
  ASSERT_EQ(command(set_pairs(kPairs)), NetCommand::kOk);
  add_buffers(0, 4);
  auto& ring = driver_->ring(transmit_queue(2));
  ring.add({ring.readable("no header")});
  driver_->notify(transmit_queue(2));
  EXPECT_TRUE(driver_->wait_needs_reset());
  arrive(0);
  add_frame(1);
  settle();
  EXPECT_EQ(driver_->ring(receive_queue(0)).used_index(), 0);
  EXPECT_EQ(driver_->ring(transmit_queue(1)).used_index(), 0);
  on_loop(0, [&] {
    EXPECT_FALSE(fake(0).wants);
    fake(0).waiting.clear();
  });
}

TEST_P(NetQueuesTest, APairThatDoesNotStartBreaksTheDevice) {
  on_loop(1, [&] { fake(1).fail_start = true; });
  driver_->start();
  auto& ring = driver_->ring(kControl);
  ring.add({ring.readable(set_pairs(2)), ring.writable(1)});
  driver_->notify(kControl);
  EXPECT_TRUE(driver_->wait_needs_reset());
}

TEST_P(NetQueuesTest, AResetAtAnyTimeBeginsWithOnePair) {
  for (int round = 0; round < 30; ++round) {
    driver_->start();
    auto& ring = driver_->ring(kControl);
    for (const unsigned count : {3U, 1U, 2U}) ring.add({ring.readable(set_pairs(count)), ring.writable(1)});
    driver_->notify(kControl);
    for (size_t pair = 0; pair < kPairs; ++pair) {
      add_buffers(pair, 4);
      add_frame(pair);
      if (pair < static_cast<size_t>(round % 4)) arrive(pair);
    }
    if (round % 3 == 0) settle();
    driver_->core->reset();
    for (size_t pair = 0; pair < kPairs; ++pair) {
      EXPECT_FALSE(running(pair)) << pair;
      on_loop(pair, [&] { fake(pair).waiting.clear(); });
    }
  }
  driver_->start();
  settle();
  EXPECT_TRUE(running(0));
  EXPECT_FALSE(running(1));
}

TEST_P(NetQueuesTest, PairsShareALimit) {
  driver_.reset();
  net_.reset();
  net_.emplace(loops_, network_, backend::MacAddress{}, "net0",
               backend::RateLimit::Rates{.bytes = 0, .operations = 3});
  driver_.emplace(*net_, memory_);
  driver_->start();
  ASSERT_EQ(command(set_pairs(kPairs)), NetCommand::kOk);
  for (int i = 0; i < 10; ++i) {
    for (size_t pair = 0; pair < kPairs; ++pair) add_frame(pair);
  }
  settle();
  // A second's worth, and what several threads let through at once.
  EXPECT_GE(net_->sent().frames, 3U);
  EXPECT_LT(net_->sent().frames, 25U);
}

INSTANTIATE_TEST_SUITE_P(Loops, NetQueuesTest, testing::Bool(),
                         [](const auto& one) { return one.param ? "OfTheirOwn" : "One"; });

}  // namespace
}  // namespace vmm::virtio
