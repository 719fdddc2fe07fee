// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.h"

#include <linux/virtio_config.h>
#include <linux/virtio_console.h>

#include <mutex>
#include <string>

#include <gtest/gtest.h>

#include "devices/virtio/ring_layout.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {
namespace {

constexpr uint16_t kReceive = 0;
constexpr uint16_t kTransmit = 1;
constexpr uint64_t kSize = 1ULL << VIRTIO_CONSOLE_F_SIZE;
constexpr uint64_t kEmergency = 1ULL << VIRTIO_CONSOLE_F_EMERG_WRITE;

// A person: reads everything, types what the test says, and offers it as backend/console.h promises.
class FakePerson final : public backend::Console {
 public:
  explicit FakePerson(EventLoop& loop) : loop_(loop) {}

  void write(std::span<const std::byte> bytes) override {
    const std::lock_guard lock{mutex_};
    output_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void set_input(Input input) override { input_ = std::move(input); }
  void resume() override {
    loop_.post([this] { offer(); });
  }
  backend::WindowSize window() const override { return {132, 43}; }
  void set_resize(std::function<void(backend::WindowSize)> resized) override {
    resized_ = std::move(resized);
  }
  uint64_t dropped() const override { return 0; }

  void type(const std::string& text) {
    loop_.call([&] {
      const bool waits = !typed_.empty();
      typed_ += text;
      if (!waits) offer();
    });
  }
  void resize(backend::WindowSize window) {
    loop_.call([&] { resized_(window); });
  }
  std::string output() const {
    const std::lock_guard lock{mutex_};
    return output_;
  }
  size_t waiting() {
    size_t size = 0;
    loop_.call([&] { size = typed_.size(); });
    return size;
  }
  int offers() {
    int count = 0;
    loop_.call([&] { count = offers_; });
    return count;
  }

 private:
  void offer() {
    if (typed_.empty() || !input_) return;
    ++offers_;
    const size_t taken = input_(std::as_bytes(std::span{typed_}));
    ASSERT_LE(taken, typed_.size());
    typed_.erase(0, taken);
  }

  EventLoop& loop_;
  mutable std::mutex mutex_;
  std::string output_;  // guarded by mutex_
  Input input_;         // this and what follows: the loop's
  std::function<void(backend::WindowSize)> resized_;
  std::string typed_;
  int offers_ = 0;
};

class ConsoleTest : public testing::Test {
 protected:
  virtio_console_config config() {
    virtio_console_config config{};
    driver_.core->read_config(0, std::as_writable_bytes(std::span{&config, 1}));
    return config;
  }
  FakeRing& receive() { return driver_.ring(kReceive); }
  FakeRing& transmit() { return driver_.ring(kTransmit); }
  bool prints(const std::string& text) {
    const auto before = person_.output();
    driver_.request(kTransmit, {transmit().readable(text)});
    return person_.output() == before + text;
  }
  // Gives one buffer and reads what was typed into it.
  std::string typed_into(uint32_t room) {
    const auto buffer = receive().writable(room);
    const auto used = driver_.request(kReceive, {buffer});
    return receive().bytes_at(buffer.address, used.length);
  }

  LoopThread loop_;
  GuestMemory memory_ = make_test_memory(16 << 20);
  FakePerson person_{*loop_};
  Console console_{"console0", *loop_, person_};
  FakeDriver driver_{console_, memory_};
};

TEST_F(ConsoleTest, OffersOnePortWithASize) {
  EXPECT_EQ(console_.type(), 3);
  EXPECT_EQ(console_.features(), kSize | kEmergency);
  EXPECT_EQ(console_.queue_sizes().size(), 2U);
  EXPECT_EQ(config().cols, 132);
  EXPECT_EQ(config().rows, 43);
  EXPECT_EQ(config().max_nr_ports, 1U);
  EXPECT_EQ(console_.config_size(), 12U);
}

TEST_F(ConsoleTest, PrintsChainsInOrder) {
  driver_.start();
  const auto used = driver_.request(
      kTransmit, {transmit().readable("hello, "), transmit().readable(""), transmit().readable("world\n")});
  EXPECT_EQ(used.length, 0U);
  for (int i = 0; i < 10; ++i) transmit().add({transmit().readable(std::to_string(i))});
  driver_.notify(kTransmit);
  for (int i = 0; i < 10; ++i) driver_.wait_used(kTransmit);
  EXPECT_EQ(person_.output(), "hello, world\n0123456789");
}

// HG07, HG09: nothing to read, or room where there should be text.
TEST_F(ConsoleTest, ChainsWithoutTextAreGivenBack) {
  driver_.start();
  EXPECT_EQ(driver_.request(kTransmit, {transmit().readable("")}).length, 0U);
  EXPECT_EQ(driver_.request(kTransmit, {transmit().writable(100)}).length, 0U);
  EXPECT_EQ(driver_.request(kTransmit, {transmit().readable("x"), transmit().writable(8)}).length, 0U);
  EXPECT_EQ(person_.output(), "x");
}

// A chain that names the same memory over and over must not keep the loop from its other work.
TEST_F(ConsoleTest, LongOutputLeavesTurnsToOthers) {
  driver_.start();
  constexpr uint32_t kPiece = 128 * 1024;
  const auto piece = transmit().readable(std::string(kPiece, 'z'));
  const std::vector<FakeRing::Buffer> buffers(64, piece);
  size_t seen = ~size_t{0};
  loop_->call([&] {
    transmit().add(buffers);
    driver_.notify(kTransmit);
    // Behind the first turn of output, in front of the last.
    loop_->post([&] { loop_->post([&] { loop_->post([&] { seen = person_.output().size(); }); }); });
  });
  driver_.wait_used(kTransmit);
  driver_.settle();
  EXPECT_EQ(person_.output().size(), size_t{64} * kPiece);
  EXPECT_LE(seen, size_t{4} << 20);
}

TEST_F(ConsoleTest, TypedTextArrives) {
  driver_.start();
  receive().add({receive().writable(64)});
  driver_.notify(kReceive);
  driver_.settle();
  person_.type("ls\n");
  EXPECT_EQ(driver_.wait_used(kReceive).length, 3U);
  EXPECT_EQ(person_.waiting(), 0U);
}

TEST_F(ConsoleTest, TextFromBeforeTheDriverIsKept) {
  person_.type("early");
  EXPECT_EQ(person_.waiting(), 5U);
  driver_.start();
  EXPECT_EQ(typed_into(64), "early");
}

// HG56: no buffers, then too small ones: nothing is lost, nothing piles up here, and nobody is busy
// meanwhile.
TEST_F(ConsoleTest, InputWaitsForRoom) {
  driver_.start();
  driver_.settle();
  person_.type("0123456789abcdef");
  person_.type("ghij");
  const int offers = person_.offers();
  driver_.settle();
  EXPECT_EQ(person_.offers(), offers);
  EXPECT_EQ(person_.waiting(), 20U);
  EXPECT_EQ(typed_into(4), "0123");
  EXPECT_EQ(typed_into(10), "456789abcd");
  driver_.settle();
  EXPECT_EQ(person_.waiting(), 6U);
  EXPECT_LE(person_.offers(), offers + 2);
  EXPECT_EQ(typed_into(100), "efghij");
}

TEST_F(ConsoleTest, TextIsSpreadOverScatteredBuffers) {
  driver_.start();
  const auto a = receive().writable(3);
  const auto b = receive().writable(100);
  person_.type("abcdefgh");
  EXPECT_EQ(driver_.request(kReceive, {receive().readable("ignored"), a, b}).length, 8U);
  EXPECT_EQ(receive().bytes_at(a.address, 3), "abc");
  EXPECT_EQ(receive().bytes_at(b.address, 5), "defgh");
}

// HG07, HG45's like: buffers without room are given back, and a queue full of them does not hold the loop.
TEST_F(ConsoleTest, BuffersWithoutRoomAreGivenBack) {
  driver_.start();
  driver_.settle();
  for (int i = 0; i < 8; ++i) receive().add({receive().readable("no room")});
  for (int i = 0; i < 8; ++i) receive().add({receive().writable(0)});
  person_.type("x");
  driver_.notify(kReceive);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(driver_.wait_used(kReceive).length, 0U);
  EXPECT_EQ(person_.waiting(), 1U);
  EXPECT_EQ(typed_into(8), "x");
}

// HG56: one character at a time, from the first moment on.
TEST_F(ConsoleTest, EmergencyWrite) {
  const auto put = [this](auto value) {
    driver_.core->write_config(offsetof(virtio_console_config, emerg_wr),
                               std::as_bytes(std::span{&value, 1}));
  };
  put(uint32_t{'o'});
  put(uint16_t{0x4100 | 'o'});
  put(uint8_t{'p'});
  put(uint64_t{'!'});  // leaves the configuration
  const uint32_t elsewhere = 'x';
  driver_.core->write_config(0, std::as_bytes(std::span{&elsewhere, 1}));
  driver_.core->write_config(9, std::as_bytes(std::span{&elsewhere, 1}).first(1));
  EXPECT_EQ(person_.output(), "oop");
  EXPECT_EQ(config().cols, 132);
  EXPECT_EQ(config().emerg_wr, 0U);
}

TEST_F(ConsoleTest, ResizeIsAnnounced) {
  person_.resize({100, 30});
  EXPECT_EQ(config().cols, 100);
  driver_.start();
  driver_.settle();
  const auto before = driver_.interrupts.config_count();
  EXPECT_EQ(before, 1U) << "the size at the start";
  person_.resize({100, 30});
  EXPECT_EQ(driver_.interrupts.config_count(), before) << "nothing changed";
  const auto generation = driver_.core->config_generation();
  person_.resize({80, 24});
  EXPECT_EQ(driver_.interrupts.config_count(), before + 1);
  EXPECT_NE(driver_.core->config_generation(), generation);
  EXPECT_EQ(config().cols, 80);
  EXPECT_EQ(config().rows, 24);
}

TEST_F(ConsoleTest, ResizeIsNotAnnouncedToWhoDidNotAsk) {
  driver_.start(kFeatureVersion1, 16);
  driver_.settle();
  person_.resize({80, 24});
  EXPECT_EQ(driver_.interrupts.config_count(), 0U);
}

// HG03: either ring broken; the text typed is not lost, and a reset brings the console back.
TEST_F(ConsoleTest, BrokenRingsNeedAReset) {
  for (const uint16_t queue : {kReceive, kTransmit}) {
    driver_.start();
    driver_.settle();
    driver_.ring(queue).offer(999);
    if (queue == kReceive) person_.type("kept");
    driver_.notify(queue);
    EXPECT_TRUE(driver_.wait_needs_reset());
    person_.resize({static_cast<uint16_t>(queue + 1U), 1});
    driver_.core->reset();
  }
  driver_.start();
  EXPECT_EQ(typed_into(16), "kept");
  EXPECT_TRUE(prints("back"));
}

TEST_F(ConsoleTest, ResetDuringOutput) {
  for (int i = 0; i < 20; ++i) {
    driver_.start();
    const auto piece = transmit().readable(std::string(128 * 1024, 'z'));
    transmit().add(std::vector<FakeRing::Buffer>(64, piece));
    driver_.notify(kTransmit);
    driver_.core->reset();
  }
  driver_.start();
  EXPECT_TRUE(prints("clean"));
}

TEST_F(ConsoleTest, DriverWithoutQueues) {
  ASSERT_TRUE(driver_.negotiate(driver_.offered()));
  driver_.core->set_status(driver_.core->status() | VIRTIO_CONFIG_S_DRIVER_OK);
  driver_.notify(kReceive);
  driver_.notify(kTransmit);
  person_.type("x");
  driver_.settle();
  EXPECT_EQ(person_.waiting(), 1U);
  EXPECT_FALSE(driver_.needs_reset());
}

}  // namespace
}  // namespace vmm::virtio
