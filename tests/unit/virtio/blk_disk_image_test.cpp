// SPDX-License-Identifier: Apache-2.0
//
// The block device over a real image, with the kernel's own file I/O in flight.

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "devices/backend/disk_image.h"
#include "devices/virtio/blk.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {
namespace {

constexpr uint64_t kSectors = 4096;
constexpr uint32_t kBlock = 4096;  // bytes of a request

class BlkDiskImageTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  void SetUp() override {
    if (const auto loop = EventLoop::create(GetParam()); !loop) GTEST_SKIP() << loop.error().message;
    path_ = testing::TempDir() + "vmm-blk-XXXXXX";
    const Fd file{::mkstemp(path_.data())};
    ASSERT_TRUE(file);
    ASSERT_EQ(::ftruncate(file.get(), kSectors * 512), 0);
    loop_ = std::make_unique<LoopThread>(GetParam());
    disk_ = backend::DiskImage::open(path_, backend::DiskImage::Access::read_write).value();
    blk_ = Blk::create(std::array{&**loop_}, *disk_, "blk0", "").value();
    driver_ = std::make_unique<FakeDriver>(*blk_, memory_);
  }
  void TearDown() override {
    driver_.reset();
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  FakeRing& ring() { return driver_->ring(0); }
  FakeRing::Buffer header(uint32_t type, uint64_t sector) {
    const virtio_blk_outhdr value{.type = type, .ioprio = 0, .sector = sector};
    return ring().readable({reinterpret_cast<const char*>(&value), sizeof value});
  }
  uint8_t request(uint32_t type, uint64_t sector, std::optional<FakeRing::Buffer> data) {
    const auto status = ring().writable(1);
    std::vector buffers{header(type, sector)};
    if (data) buffers.push_back(*data);
    buffers.push_back(status);
    driver_->request(0, buffers);
    return static_cast<uint8_t>(ring().bytes_at(status.address, 1)[0]);
  }

  GuestMemory memory_ = make_test_memory(16 << 20);
  std::string path_;
  std::unique_ptr<LoopThread> loop_;
  std::unique_ptr<backend::DiskImage> disk_;
  std::unique_ptr<Blk> blk_;
  std::unique_ptr<FakeDriver> driver_;
};

TEST_P(BlkDiskImageTest, WhatWasFlushedIsInTheFile) {
  driver_->start();
  const std::string text(kBlock, 'f');
  EXPECT_EQ(request(VIRTIO_BLK_T_OUT, 8, ring().readable(text)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(request(VIRTIO_BLK_T_FLUSH, 0, {}), VIRTIO_BLK_S_OK);
  const Fd file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
  std::string found(kBlock, '\0');
  EXPECT_EQ(::pread(file.get(), found.data(), kBlock, 8 * 512), kBlock);
  EXPECT_EQ(found, text);
}

// HG37
TEST_P(BlkDiskImageTest, WritesDoNotGrowTheFile) {
  driver_->start();
  const auto data = ring().readable(std::string(kBlock, 'g'));
  for (const uint64_t sector : {kSectors, kSectors - 1, 1UL << 55, UINT64_MAX}) {
    EXPECT_EQ(request(VIRTIO_BLK_T_OUT, sector, data), VIRTIO_BLK_S_IOERR);
  }
  EXPECT_EQ(request(VIRTIO_BLK_T_OUT, kSectors - kBlock / 512, data), VIRTIO_BLK_S_OK);
  const Fd file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_END), off_t{kSectors * 512});
}

// HG29: reads in flight write into guest memory until the reset has returned, and not a byte after.
TEST_P(BlkDiskImageTest, ResetsWithReadsInFlight) {
  {
    const Fd file{::open(path_.c_str(), O_RDWR | O_CLOEXEC)};
    const std::string full(kSectors * 512, 'd');
    ASSERT_EQ(::pwrite(file.get(), full.data(), full.size(), 0), static_cast<ssize_t>(full.size()));
  }
  std::minstd_rand random{1};
  const Gpa pages{8 << 20};
  constexpr uint32_t kRequests = 85;
  for (int round = 0; round < 20; ++round) {
    driver_->start(256);
    for (uint32_t i = 0; i < kRequests; ++i) {
      const uint64_t sector = random() % (kSectors - kBlock / 512);
      ring().add(
          {header(VIRTIO_BLK_T_IN, sector), {Gpa{pages.raw + i * kBlock}, kBlock, true}, ring().writable(1)});
    }
    driver_->notify(0);
    if (round % 2 == 1) driver_->wait_used(0);
    driver_->core->set_status(0);
    const auto reused = memory_.slice(pages, kRequests * kBlock);
    reused->zero();
    driver_->settle();
    EXPECT_EQ(ring().bytes_at(pages, kRequests * kBlock), std::string(kRequests * kBlock, '\0'));
  }
  driver_->start();
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 0, ring().writable(kBlock)), VIRTIO_BLK_S_OK);
}

INSTANTIATE_TEST_SUITE_P(Engines, BlkDiskImageTest,
                         testing::Values(EventLoop::Engine::io_uring, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::io_uring ? "io_uring" : "epoll";
                         });

}  // namespace
}  // namespace vmm::virtio
