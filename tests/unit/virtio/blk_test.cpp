// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk.h"

#include <linux/virtio_blk.h>

#include <array>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_disk.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {
namespace {

using testing::ElementsAre;
using Kind = FakeDisk::Kind;

constexpr uint64_t kSize = 64 * 512;
constexpr uint64_t feature(unsigned bit) {
  return 1ULL << bit;
}

// A disk, its device and a driver.
struct BlkUnderTest {
  explicit BlkUnderTest(bool read_only = false) : disk(kSize, read_only) {}

  FakeRing& ring() { return driver.ring(0); }
  FakeRing::Buffer header(uint32_t type, uint64_t sector) {
    const virtio_blk_outhdr value{.type = type, .ioprio = 0, .sector = sector};
    return ring().readable({reinterpret_cast<const char*>(&value), sizeof value});
  }
  struct Answer {
    int status;
    uint32_t written;
    std::string data;
    friend bool operator==(const Answer&, const Answer&) = default;
  };
  Answer request(uint32_t type, uint64_t sector, std::optional<FakeRing::Buffer> data) {
    auto status = ring().writable(1);
    EXPECT_TRUE(memory.store(status.address, uint8_t{0xEE}));
    std::vector buffers{header(type, sector)};
    if (data) buffers.push_back(*data);
    buffers.push_back(status);
    const auto used = driver.request(0, buffers);
    return {ring().bytes_at(status.address, 1)[0], used.length,
            data && data->writable ? ring().bytes_at(data->address, data->length) : ""};
  }
  Answer read(uint64_t sector, uint32_t length) {
    return request(VIRTIO_BLK_T_IN, sector, ring().writable(length));
  }
  Answer write(uint64_t sector, const std::string& text) {
    return request(VIRTIO_BLK_T_OUT, sector, ring().readable(text));
  }
  Answer segment(uint32_t type, uint64_t sector, uint32_t count, uint32_t flags) {
    const virtio_blk_discard_write_zeroes value{sector, count, flags};
    return request(type, 0, ring().readable({reinterpret_cast<const char*>(&value), sizeof value}));
  }

  LoopThread loop;
  GuestMemory memory = make_test_memory(4 << 20);
  FakeDisk disk;
  std::array<EventLoop*, 1> loops{&*loop};
  std::unique_ptr<Blk> made = Blk::create(loops, disk, "blk0", "serial-0123456789abcdefgh").value();
  Blk& blk = *made;
  FakeDriver driver{blk, memory};
};

TEST(BlkTest, Configuration) {
  BlkUnderTest s;
  virtio_blk_config config{};
  s.driver.core->read_config(0, std::as_writable_bytes(std::span{&config, 1}).first(60));
  EXPECT_EQ(config.capacity, 64U);
  EXPECT_EQ(config.seg_max, 126U);
  EXPECT_EQ(config.blk_size, 512U);
  EXPECT_EQ(config.physical_block_exp, 3);
  EXPECT_EQ(config.max_discard_seg, 1U);
  EXPECT_EQ(config.write_zeroes_may_unmap, 1);
  EXPECT_EQ(s.blk.config_size(), 60U);
  constexpr uint64_t kAlways = feature(VIRTIO_BLK_F_FLUSH) | feature(VIRTIO_BLK_F_SEG_MAX) |
                               feature(VIRTIO_BLK_F_BLK_SIZE) | feature(VIRTIO_BLK_F_TOPOLOGY);
  EXPECT_EQ(s.blk.features(), kAlways | feature(VIRTIO_BLK_F_DISCARD) | feature(VIRTIO_BLK_F_WRITE_ZEROES));
  EXPECT_EQ(BlkUnderTest{true}.blk.features(), kAlways | feature(VIRTIO_BLK_F_RO));
}

TEST(BlkTest, ReadsWritesAndCounts) {
  BlkUnderTest s;
  s.driver.start();
  const std::string text(1024, 'w');
  EXPECT_EQ(s.write(3, text), (BlkUnderTest::Answer{VIRTIO_BLK_S_OK, 1, ""}));
  EXPECT_EQ(s.disk.bytes(1536, 1024), text);
  EXPECT_EQ(s.read(2, 1024),
            (BlkUnderTest::Answer{VIRTIO_BLK_S_OK, 1025, std::string(512, '\0') + std::string(512, 'w')}));
  EXPECT_EQ(s.request(VIRTIO_BLK_T_FLUSH, 0, {}).status, VIRTIO_BLK_S_OK);
  EXPECT_THAT(s.disk.kinds(), ElementsAre(Kind::write, Kind::read, Kind::flush));
  const auto counts = s.blk.counts();
  EXPECT_EQ(counts.reads, 1U);
  EXPECT_EQ(counts.bytes_written, 1024U);
  EXPECT_EQ(counts.flushes, 1U);
  EXPECT_EQ(counts.errors, 0U);
}

TEST(BlkTest, DiscardZeroesAndIdentity) {
  BlkUnderTest s;
  s.driver.start();
  s.disk.put(0, std::string(2048, 'x'));
  EXPECT_EQ(s.segment(VIRTIO_BLK_T_DISCARD, 0, 1, 0).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(s.segment(VIRTIO_BLK_T_WRITE_ZEROES, 1, 1, 1).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(s.disk.bytes(0, 1536), std::string(512, 'D') + std::string(512, '\0') + std::string(512, 'x'));
  EXPECT_EQ(s.request(VIRTIO_BLK_T_GET_ID, 0, s.ring().writable(20)),
            (BlkUnderTest::Answer{VIRTIO_BLK_S_OK, 21, "serial-0123456789abc"}));
  EXPECT_EQ(s.read(0, 0).status, VIRTIO_BLK_S_OK);
}

TEST(BlkTest, EachWriteIsFlushedForADriverWithoutFlush) {
  BlkUnderTest s;
  s.driver.start(kFeatureVersion1, 16);
  EXPECT_EQ(s.write(0, std::string(512, 'w')).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(s.segment(VIRTIO_BLK_T_WRITE_ZEROES, 1, 1, 0).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(s.read(0, 512).status, VIRTIO_BLK_S_OK);
  EXPECT_THAT(s.disk.kinds(),
              ElementsAre(Kind::write, Kind::flush, Kind::write_zeroes, Kind::flush, Kind::read));
  EXPECT_EQ(s.blk.counts().flushes, 0U);
}

// HG37, HG39, HG41: what is refused never reaches the disk.
TEST(BlkTest, RefusalsAreAnswered) {
  BlkUnderTest s{true};
  s.driver.start(kFeatureVersion1, 16);  // RO not acknowledged
  EXPECT_EQ(s.write(0, std::string(512, 'w')), (BlkUnderTest::Answer{VIRTIO_BLK_S_IOERR, 1, ""}));
  EXPECT_EQ(s.read(64, 512), (BlkUnderTest::Answer{VIRTIO_BLK_S_IOERR, 1, std::string(512, '\0')}));
  EXPECT_EQ(s.request(0x8000'0000, 0, {}).status, VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(s.segment(VIRTIO_BLK_T_DISCARD, 0, 1, 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_TRUE(s.disk.kinds().empty());
  EXPECT_EQ(s.blk.counts().errors, 4U);
  EXPECT_FALSE(s.driver.needs_reset());
}

// HG42
TEST(BlkTest, HostErrorsBecomeIoErrors) {
  BlkUnderTest s;
  s.driver.start();
  for (const int32_t error : {-EIO, -ENOSPC}) {
    s.disk.error = error;
    EXPECT_EQ(s.write(0, std::string(512, 'w')).status, VIRTIO_BLK_S_IOERR);
    EXPECT_EQ(s.request(VIRTIO_BLK_T_FLUSH, 0, {}).status, VIRTIO_BLK_S_IOERR);
  }
  s.disk.error = 0;
  EXPECT_EQ(s.write(0, std::string(512, 'w')).status, VIRTIO_BLK_S_OK);
}

TEST(BlkTest, NoRoomForTheStatusNeedsReset) {
  BlkUnderTest s;
  s.driver.start();
  s.ring().add({s.header(VIRTIO_BLK_T_IN, 0)});
  s.driver.notify(0);
  EXPECT_TRUE(s.driver.wait_needs_reset());
  EXPECT_EQ(s.ring().used_index(), 0);
  s.driver.core->set_status(0);
  s.driver.start();
  EXPECT_EQ(s.read(0, 512).status, VIRTIO_BLK_S_OK);
}

// HG14: a broken driver loses what is in flight, too, and only with the reset.
TEST(BlkTest, BrokenWithRequestsInFlight) {
  BlkUnderTest s;
  s.driver.start();
  s.disk.hold = true;
  const auto head =
      s.ring().add({s.header(VIRTIO_BLK_T_IN, 0), s.ring().writable(512), s.ring().writable(1)});
  s.driver.notify(0);
  EXPECT_TRUE(s.driver.interrupts.wait([&] { return s.disk.held == 1; }));
  s.ring().offer(head);
  s.driver.notify(0);
  EXPECT_TRUE(s.driver.wait_needs_reset());
  s.loop->call([&] { s.disk.release(); });
  s.driver.settle();
  EXPECT_EQ(s.ring().used_index(), 0);
  s.driver.core->set_status(0);
  s.driver.start();
  EXPECT_EQ(s.read(0, 512).status, VIRTIO_BLK_S_OK);
}

// HG29
TEST(BlkTest, ResetWaitsForRequestsInFlight) {
  BlkUnderTest s;
  s.driver.start(64);
  s.disk.put(0, std::string(512, 'd'));
  s.disk.hold = true;
  std::vector<Gpa> pages;
  for (int i = 0; i < 21; ++i) {
    const auto page = s.ring().writable(512);
    pages.push_back(page.address);
    s.ring().add({s.header(VIRTIO_BLK_T_IN, 0), page, s.ring().writable(1)});
  }
  s.driver.notify(0);
  EXPECT_TRUE(s.driver.interrupts.wait([&] { return s.disk.held == 21; }));
  std::atomic<bool> over{false};
  std::jthread vcpu{[&] {
    s.driver.core->set_status(0);
    over = true;
  }};
  s.driver.settle();
  EXPECT_FALSE(over);
  s.loop->call([&] { s.disk.release(); });
  vcpu.join();
  // The pages are the guest's again: nothing writes to them from here on.
  for (const auto page : pages) {
    EXPECT_EQ(s.ring().bytes_at(page, 512), std::string(512, 'd'));
    s.memory.slice(page, 512)->zero();
  }
  s.driver.settle();
  for (const auto page : pages) EXPECT_EQ(s.ring().bytes_at(page, 512), std::string(512, '\0'));
  s.driver.start();
  EXPECT_EQ(s.read(0, 512).status, VIRTIO_BLK_S_OK);
}

TEST(BlkTest, ManyRequestsOfOneDoorbell) {
  BlkUnderTest s;
  s.driver.start(256);
  const auto data = s.ring().writable(512);
  const auto status = s.ring().writable(1);
  const auto head = s.header(VIRTIO_BLK_T_IN, 1);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 85; ++i) s.ring().add({head, data, status});
    s.driver.notify(0);
    for (int i = 0; i < 85; ++i) s.driver.wait_used(0);
  }
  EXPECT_EQ(s.blk.counts().reads, 1700U);
}

}  // namespace
}  // namespace vmm::virtio
