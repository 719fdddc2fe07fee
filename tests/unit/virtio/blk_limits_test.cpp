// SPDX-License-Identifier: Apache-2.0
//
// The block device over a disk with limits, and over several loops.

#include <linux/virtio_blk.h>

#include <array>
#include <memory>

#include <gtest/gtest.h>

#include "devices/backend/throttled_block.h"
#include "devices/virtio/blk.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_disk.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {
namespace {

constexpr uint64_t kSize = 256 * 512;

std::array<FakeRing::Buffer, 3> read_sector(FakeRing& ring, uint64_t sector) {
  const virtio_blk_outhdr header{.type = VIRTIO_BLK_T_IN, .ioprio = 0, .sector = sector};
  return {ring.readable({reinterpret_cast<const char*>(&header), sizeof header}), ring.writable(512),
          ring.writable(1)};
}

TEST(BlkLimitsTest, RequestsWaitAndAResetDoesNotWaitForThem) {
  LoopThread loop;
  auto memory = make_test_memory(4 << 20);
  auto fake = std::make_unique<FakeDisk>(kSize);
  auto& disk = *fake;
  backend::ThrottledBlock throttled{std::move(fake), {.bytes = 0, .operations = 1}};
  std::unique_ptr<Blk> blk;
  loop->call([&] { blk = Blk::create(std::array{&*loop}, throttled, "blk0", "").value(); });
  {
    FakeDriver driver{*blk, memory};
    driver.start(128);  // room for all, of three descriptors each: the device may look before it is told
    for (uint64_t i = 0; i < 40; ++i) driver.ring(0).add(read_sector(driver.ring(0), i));
    driver.notify(0);
    // What a full bucket lets through: a second's worth.
    driver.wait_used(0);
    driver.settle();
    EXPECT_LT(disk.kinds().size(), 40U);
    // 40 requests would take most of a minute. This comes back at once, and the test would time out if not.
    driver.core->set_status(0);
    EXPECT_LT(disk.kinds().size(), 40U);
    EXPECT_EQ(blk->counts().reads, disk.kinds().size());
  }
  loop->call([&] { blk.reset(); });
}

TEST(BlkLimitsTest, EveryByteIsCountedAndFlushesAreNot) {
  LoopThread loop;
  auto fake = std::make_unique<FakeDisk>(kSize);
  auto& disk = *fake;
  backend::ThrottledBlock throttled{std::move(fake), {.bytes = 1024, .operations = 0}};
  struct Count : IoCompletion {
    void complete(int32_t value) override { ++(value == 0 ? good : cancelled); }
    int good = 0;
    int cancelled = 0;
  } count;
  std::unique_ptr<backend::BlockChannel> channel;
  std::array<char, 1024> bytes{};
  const iovec buffer{bytes.data(), bytes.size()};
  loop->call([&] {
    channel = throttled.open_channel(*loop).value();
    for (int i = 0; i < 4; ++i) {
      channel->submit({.kind = FakeDisk::Kind::read, .length = bytes.size(), .buffers = {&buffer, 1}}, count);
      channel->submit({.kind = FakeDisk::Kind::write_zeroes, .length = 8 * bytes.size()}, count);
    }
    channel->submit({.kind = FakeDisk::Kind::flush}, count);
  });
  for (int i = 0; i < 3; ++i) loop->call([] {});
  EXPECT_EQ(disk.kinds().back(), FakeDisk::Kind::flush);  // it did not wait behind the reads
  EXPECT_LT(disk.kinds().size(), 9U);
  loop->call([&] { channel->cancel(); });
  for (int i = 0; i < 3; ++i) loop->call([] {});
  loop->call([&] {
    EXPECT_EQ(count.good + count.cancelled, 9);
    EXPECT_GT(count.cancelled, 0);
    channel.reset();
  });
}

TEST(BlkQueuesTest, EachQueueIsWorkedOnItsLoop) {
  std::array<LoopThread, 3> threads;
  std::array<EventLoop*, 3> loops{&*threads[0], &*threads[1], &*threads[2]};
  auto memory = make_test_memory(16 << 20);
  FakeDisk disk{kSize};
  const auto blk = Blk::create(loops, disk, "blk0", "").value();
  EXPECT_NE(blk->features() & (1ULL << VIRTIO_BLK_F_MQ), 0U);
  virtio_blk_config config{};
  FakeDriver driver{*blk, memory};
  driver.core->read_config(0, std::as_writable_bytes(std::span{&config, 1}).first(60));
  EXPECT_EQ(config.num_queues, 3);
  for (int round = 0; round < 3; ++round) {
    driver.start();
    for (int i = 0; i < 50; ++i) {
      for (uint16_t queue = 0; queue < 3; ++queue) {
        driver.ring(queue).add(read_sector(driver.ring(queue), queue));
        driver.notify(queue);
      }
      for (uint16_t queue = 0; queue < 3; ++queue) driver.wait_used(queue);
    }
    EXPECT_EQ(blk->counts().reads, 150U * static_cast<unsigned>(round + 1));
    driver.core->set_status(0);
  }
}

// One loop meets a broken ring while the others work.
TEST(BlkQueuesTest, AFaultInOneQueueStopsAll) {
  std::array<LoopThread, 2> threads;
  std::array<EventLoop*, 2> loops{&*threads[0], &*threads[1]};
  auto memory = make_test_memory(16 << 20);
  FakeDisk disk{kSize};
  const auto blk = Blk::create(loops, disk, "blk0", "").value();
  FakeDriver driver{*blk, memory};
  driver.start();
  driver.ring(1).add({driver.ring(1).readable(std::string(16, '\0'))});  // no room for a status
  driver.notify(1);
  EXPECT_TRUE(driver.wait_needs_reset());
  driver.ring(0).add(read_sector(driver.ring(0), 0));
  driver.notify(0);
  driver.settle();
  EXPECT_EQ(driver.ring(0).used_index(), 0);
  driver.core->set_status(0);
  driver.start();
  driver.request(0, read_sector(driver.ring(0), 0));
}

TEST(BlkResizeTest, TheDriverIsToldAndReadsTheNewPart) {
  LoopThread loop;
  auto memory = make_test_memory(4 << 20);
  FakeDisk disk{kSize};
  const auto blk = Blk::create(std::array{&*loop}, disk, "blk0", "").value();
  FakeDriver driver{*blk, memory};
  driver.start();
  const auto status_of = [&](uint64_t sector) {
    const auto buffers = read_sector(driver.ring(0), sector);
    driver.request(0, buffers);
    return driver.ring(0).bytes_at(buffers[2].address, 1)[0];
  };
  EXPECT_EQ(status_of(256), VIRTIO_BLK_S_IOERR);
  const auto generation = driver.core->config_generation();
  ASSERT_TRUE(blk->resize(2 * kSize));
  EXPECT_TRUE(driver.interrupts.wait([&] { return driver.interrupts.config_count() == 1; }));
  EXPECT_NE(driver.core->config_generation(), generation);
  uint64_t capacity = 0;
  driver.core->read_config(0, std::as_writable_bytes(std::span{&capacity, 1}));
  EXPECT_EQ(capacity, 512U);
  EXPECT_EQ(status_of(256), VIRTIO_BLK_S_OK);
}

}  // namespace
}  // namespace vmm::virtio
