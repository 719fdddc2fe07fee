// SPDX-License-Identifier: Apache-2.0
//
// The network device with limits.

#include <array>
#include <chrono>
#include <string>

#include <gtest/gtest.h>

#include "devices/virtio/net.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"
#include "tests/unit/virtio/fake_net.h"

namespace vmm::virtio {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr uint32_t kHeader = sizeof(backend::VnetHeader);
constexpr uint16_t kFrames = 250;

struct Machine {
  explicit Machine(const backend::RateLimit::Rates& rates)
      : net{std::array{&*loop}, fake, {}, "net0", rates}, driver{net, memory} {}

  // `count` frames to send, which name themselves.
  void send(int count) {
    auto& ring = driver.ring(Net::kTransmit);
    for (int i = 0; i < count; ++i) {
      ring.add({ring.readable(std::string(kHeader, '\0') + frame(i))});
    }
    driver.notify(Net::kTransmit);
  }
  // `count` frames that arrive, and buffers for them.
  void arrive(int count) {
    auto& ring = driver.ring(Net::kReceive);
    for (int i = 0; i < count; ++i) ring.add({ring.writable(1600)});
    driver.notify(Net::kReceive);
    loop->call([&] {
      for (int i = 0; i < count; ++i) fake.arrive(frame(i));
    });
  }
  static std::string frame(int number) { return std::string(996, 'f') + std::to_string(1000 + number); }

  LoopThread loop;
  GuestMemory memory = make_test_memory(8 << 20);
  FakeNet fake;
  Net net;
  FakeDriver driver;
};

// 200 a second: 200 go at once, and the other 50 take a quarter of a second.
void expect_rate(const backend::RateLimit::Rates& rates) {
  for (const auto queue : {Net::kTransmit, Net::kReceive}) {
    Machine machine{rates};
    machine.driver.start(256);
    const auto begin = Clock::now();
    const bool sends = queue == Net::kTransmit;
    if (sends) {
      machine.send(kFrames);
    } else {
      machine.arrive(kFrames);
    }
    for (int i = 0; i < kFrames; ++i) machine.driver.wait_used(queue);
    EXPECT_GE(Clock::now() - begin, 240ms) << "queue " << queue;
    const auto counts = sends ? machine.net.sent() : machine.net.received();
    EXPECT_EQ(counts.frames, uint64_t{kFrames});
    EXPECT_EQ(counts.dropped, 0U);
    machine.loop->call([&] {
      for (size_t i = 0; i < machine.fake.sent.size(); ++i) {
        EXPECT_EQ(machine.fake.sent[i].bytes, Machine::frame(static_cast<int>(i)));
      }
    });
  }
}

TEST(NetLimitsTest, FramesASecond) {
  expect_rate({.bytes = 0, .operations = 200});
}

TEST(NetLimitsTest, BytesASecond) {
  expect_rate({.bytes = 200'000, .operations = 0});
}

TEST(NetLimitsTest, DirectionsDoNotShareALimit) {
  Machine machine{{.bytes = 0, .operations = 5}};
  machine.driver.start();
  machine.send(20);
  for (int i = 0; i < 5; ++i) machine.driver.wait_used(Net::kTransmit);
  machine.arrive(5);
  const auto begin = Clock::now();
  for (int i = 0; i < 5; ++i) machine.driver.wait_used(Net::kReceive);
  EXPECT_LT(Clock::now() - begin, 3s);  // what was sent has used up three seconds' worth
}

// Neither doorbells nor arriving frames make a direction that waits busy.
TEST(NetLimitsTest, WaitingIsIdle) {
  Machine machine{{.bytes = 0, .operations = 1}};
  machine.driver.start();
  machine.send(20);
  machine.arrive(20);
  machine.driver.wait_used(Net::kTransmit);
  machine.driver.wait_used(Net::kReceive);
  machine.driver.settle();
  int asked = 0;
  machine.loop->call([&] {
    EXPECT_FALSE(machine.fake.wants);
    asked = machine.fake.receives;
  });
  for (int i = 0; i < 50; ++i) {
    machine.driver.notify(Net::kTransmit);
    machine.driver.notify(Net::kReceive);
    machine.driver.settle();
  }
  machine.loop->call([&] {
    EXPECT_LE(machine.fake.receives, asked + 5);  // a frame a second, however slow this host is
    EXPECT_LE(machine.fake.sent.size(), 6U);
  });
}

// A driver does not get rid of its debt by a reset, and one that is reset while it waits is not kept.
TEST(NetLimitsTest, AResetWhileWaiting) {
  Machine machine{{.bytes = 0, .operations = 2}};
  const auto begin = Clock::now();
  for (int round = 0; round < 20; ++round) {
    machine.driver.start();
    machine.send(40);
    machine.arrive(40);
    machine.driver.settle();
    machine.driver.core->reset();
    machine.loop->call([&] {
      EXPECT_FALSE(machine.fake.running());
      machine.fake.waiting.clear();
    });
  }
  const auto most = 2 + 2 * (1 + std::chrono::ceil<std::chrono::seconds>(Clock::now() - begin).count());
  EXPECT_LE(machine.net.sent().frames, static_cast<uint64_t>(most));
  EXPECT_LE(machine.net.received().frames, static_cast<uint64_t>(most));
  machine.driver.start();
  machine.send(1);
  machine.driver.wait_used(Net::kTransmit);
  machine.arrive(1);
  machine.driver.wait_used(Net::kReceive);
}

}  // namespace
}  // namespace vmm::virtio
