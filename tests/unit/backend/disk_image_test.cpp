// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/disk_image.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

using testing::HasSubstr;
using Access = DiskImage::Access;
using Kind = BlockRequest::Kind;

// A file as a block device, for those who may make one (loop(4)).
class LoopDevice {
 public:
  static Result<LoopDevice> attach(const std::string& file) {
    const Fd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
    const Fd behind{::open(file.c_str(), O_RDWR | O_CLOEXEC)};
    for (int tries = 100;; --tries) {
      const int number = control ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
      if (number < 0) return fail(errno, "find a free loop device");
      auto path = fmt::format("/dev/loop{}", number);
      Fd device{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
      if (device && ::ioctl(device.get(), LOOP_SET_FD, behind.get()) == 0) {
        return LoopDevice{std::move(path), std::move(device)};
      }
      // Somebody else, such as this test with the other engine, took the free one first.
      if (errno != EBUSY || tries == 0) return fail(errno, "put {} behind {}", file, path);
    }
  }
  LoopDevice(LoopDevice&&) = default;
  ~LoopDevice() {
    if (device_) ::ioctl(device_.get(), LOOP_CLR_FD);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  void take_size() const { EXPECT_EQ(::ioctl(device_.get(), LOOP_SET_CAPACITY), 0); }

 private:
  LoopDevice(std::string path, Fd device) : path_(std::move(path)), device_(std::move(device)) {}
  std::string path_;
  Fd device_;
};

class DiskImageTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create(GetParam());
    if (!loop && GetParam() == EventLoop::Engine::io_uring) GTEST_SKIP() << loop.error().message;
    ASSERT_TRUE(loop) << loop.error().message;
    loop_ = std::move(*loop);
    std::string name = testing::TempDir() + "vmm-disk-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  std::string path(const std::string& name = "disk.img") { return directory_ / name; }
  std::string make(uint64_t size, const std::string& name = "disk.img") {
    const Fd fd{::open(path(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    return path(name);
  }
  std::string refusal(const std::string& at, Access access = Access::read_write) {
    const auto disk = DiskImage::open(at, access);
    return disk ? "opened" : disk.error().message;
  }
  // Submits and runs the loop until the answer.
  int32_t run(DiskImage& disk, const BlockRequest& request) {
    struct Done : IoCompletion {
      void complete(int32_t value) override {
        result = value;
        loop->stop();
      }
      EventLoop* loop = nullptr;
      int32_t result = 1;
    } done;
    done.loop = loop_.get();
    const auto channel = disk.open_channel(*loop_).value();
    channel->submit(request, done);
    loop_->run();
    return done.result;
  }
  int32_t write(DiskImage& disk, uint64_t offset, std::string text) {
    const iovec buffer{text.data(), text.size()};
    return run(disk, {.kind = Kind::write, .offset = offset, .length = text.size(), .buffers = {&buffer, 1}});
  }
  std::string read(DiskImage& disk, uint64_t offset, size_t length) {
    std::string text(length, '?');
    const iovec buffer{text.data(), text.size()};
    EXPECT_EQ(run(disk, {.kind = Kind::read, .offset = offset, .length = length, .buffers = {&buffer, 1}}),
              0);
    return text;
  }

  std::unique_ptr<EventLoop> loop_;
  std::filesystem::path directory_;
};

TEST_P(DiskImageTest, WhatIsWrittenIsRead) {
  auto disk = DiskImage::open(make(8192), Access::read_write).value();
  EXPECT_EQ(disk->size(), 8192U);
  EXPECT_FALSE(disk->read_only());
  EXPECT_EQ(write(*disk, 4096 + 512, std::string(512, 'x')), 0);
  EXPECT_EQ(run(*disk, {.kind = Kind::flush}), 0);
  EXPECT_EQ(read(*disk, 4096, 1024), std::string(512, '\0') + std::string(512, 'x'));
}

TEST_P(DiskImageTest, ZeroesReadAsZero) {
  for (const bool unmap : {false, true}) {
    auto disk = DiskImage::open(make(1 << 20), Access::read_write).value();
    EXPECT_EQ(write(*disk, 0, std::string(1 << 20, 'x')), 0);
    EXPECT_EQ(
        run(*disk, {.kind = Kind::write_zeroes, .may_unmap = unmap, .offset = 512, .length = 512 * 1024}), 0);
    EXPECT_EQ(read(*disk, 0, 512), std::string(512, 'x'));
    EXPECT_EQ(read(*disk, 512, 512 * 1024), std::string(512 * 1024, '\0'));
    EXPECT_EQ(read(*disk, 512 * 1025, 512), std::string(512, 'x'));
    EXPECT_EQ(std::filesystem::file_size(path()), 1U << 20);
  }
}

TEST_P(DiskImageTest, DiscardGivesSpaceBack) {
  auto disk = DiskImage::open(make(1 << 20), Access::read_write).value();
  if (!disk->can_discard()) GTEST_SKIP() << "this file system cannot punch holes";
  EXPECT_EQ(write(*disk, 0, std::string(1 << 20, 'x')), 0);
  EXPECT_EQ(run(*disk, {.kind = Kind::flush}), 0);
  struct stat before{};
  ASSERT_EQ(::stat(path().c_str(), &before), 0);
  EXPECT_EQ(run(*disk, {.kind = Kind::discard, .offset = 0, .length = 1 << 20}), 0);
  struct stat after{};
  ASSERT_EQ(::stat(path().c_str(), &after), 0);
  EXPECT_LT(after.st_blocks, before.st_blocks);
  EXPECT_EQ(after.st_size, 1 << 20);
}

// HG42
TEST_P(DiskImageTest, TruncatedWhileOpen) {
  auto disk = DiskImage::open(make(8192), Access::read_write).value();
  ASSERT_EQ(::truncate(path().c_str(), 4096), 0);
  std::string text(512, '?');
  const iovec buffer{text.data(), text.size()};
  EXPECT_EQ(run(*disk, {.kind = Kind::read, .offset = 4096, .length = 512, .buffers = {&buffer, 1}}), -EIO);
  EXPECT_EQ(read(*disk, 0, 512), std::string(512, '\0'));
}

// HG65
// Aligned or not: the guest sees one disk. Where the file system does no direct I/O, it is said so.
TEST_P(DiskImageTest, DirectOrRefused) {
  const auto at = make(1 << 20);
  auto opened = DiskImage::open(at, Access::read_write, DiskImage::Cache::direct);
  if (!opened) {
    EXPECT_THAT(opened.error().message, HasSubstr(",direct"));
    GTEST_SKIP() << opened.error().message;
  }
  auto& disk = **opened;
  EXPECT_GE(disk.sector_size(), 512U);
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  const std::unique_ptr<void, Free> aligned{std::aligned_alloc(4096, 8192)};
  std::memset(aligned.get(), 'd', 8192);
  const iovec buffer{aligned.get(), 8192};
  EXPECT_EQ(run(disk, {.kind = Kind::write, .offset = 4096, .length = 8192, .buffers = {&buffer, 1}}), 0);
  EXPECT_EQ(write(disk, 4096 + 512, std::string(512, 'c')),
            0);  // a string's memory and half a block: not aligned
  EXPECT_EQ(run(disk, {.kind = Kind::read, .offset = 4096, .length = 8192, .buffers = {&buffer, 1}}), 0);
  const std::string seen{static_cast<const char*>(aligned.get()), 8192};
  EXPECT_EQ(seen, std::string(512, 'd') + std::string(512, 'c') + std::string(7168, 'd'));
  EXPECT_EQ(read(disk, 4096 + 256, 512), std::string(256, 'd') + std::string(256, 'c'));
}

TEST_P(DiskImageTest, GrowsAndNeverShrinks) {
  const auto at = make(8192);
  auto disk = DiskImage::open(at, Access::read_write).value();
  ASSERT_TRUE(disk->resize(16384));
  EXPECT_EQ(disk->size(), 16384U);
  EXPECT_EQ(std::filesystem::file_size(at), 16384U);
  EXPECT_EQ(write(*disk, 12288, "behind the old end"), 0);
  EXPECT_EQ(read(*disk, 12288, 6), "behind");
  EXPECT_TRUE(disk->resize(16384));
  const auto refusal = [&disk](uint64_t bytes) { return disk->resize(bytes).error().message; };
  EXPECT_THAT(refusal(8192), HasSubstr(at + ": 8192 bytes of its 16384 would cut off data; copy"));
  EXPECT_THAT(refusal(16385), HasSubstr("; give a multiple of 512 bytes"));
  EXPECT_THAT(refusal(~uint64_t{511}), HasSubstr("are no size of a disk"));
  EXPECT_THAT(refusal(uint64_t{1} << 62), HasSubstr(at));  // larger than any file may be
  EXPECT_EQ(std::filesystem::file_size(at), 16384U);
  disk.reset();
  disk = DiskImage::open(at, Access::read_only).value();
  EXPECT_THAT(refusal(32768), HasSubstr(at + ": it is read-only; give it to a machine without ,ro"));
}

TEST_P(DiskImageTest, ABlockDeviceHasGrownAlready) {
  const auto device = LoopDevice::attach(make(8192));
  if (!device) GTEST_SKIP() << device.error().message;
  auto disk = DiskImage::open(device->path(), Access::read_write).value();
  ASSERT_EQ(disk->size(), 8192U);
  EXPECT_THAT(disk->resize(16384).error().message, HasSubstr("the device has 8192 bytes, not 16384; change"));
  ASSERT_EQ(::truncate(path().c_str(), 16384), 0);
  device->take_size();
  EXPECT_THAT(disk->resize(12288).error().message, HasSubstr("the device has 16384 bytes, not 12288"));
  EXPECT_EQ(disk->size(), 8192U);
  EXPECT_TRUE(disk->resize(16384));
  EXPECT_EQ(write(*disk, 12288, "behind the old end"), 0);
  EXPECT_EQ(read(*disk, 12288, 6), "behind");
}

TEST_P(DiskImageTest, WrongKindsOfFile) {
  EXPECT_THAT(refusal(path("none.img")),
              HasSubstr("none.img: No such file or directory; to make an empty disk"));
  EXPECT_THAT(refusal(directory_), HasSubstr("is a directory; give a raw image"));
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_THAT(refusal(path("fifo")), HasSubstr("is a FIFO; give a raw image or a block device"));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("is a character device"));
  EXPECT_THAT(refusal(make(0)), HasSubstr("is empty; to give it a size: truncate -s 4G " + path()));
  EXPECT_THAT(refusal(make(1000)),
              HasSubstr("1000 bytes, is not a multiple of 512; to round it up: truncate -s %512"));
  ASSERT_EQ(::symlink("loop", path("loop").c_str()), 0);
  EXPECT_THAT(refusal(path("loop")), HasSubstr("loop: Too many levels"));
}

TEST_P(DiskImageTest, WithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everything";
  ASSERT_EQ(::chmod(make(512).c_str(), 0400), 0);
  EXPECT_THAT(refusal(path()), HasSubstr("no permission to write it; use it read-only by appending ,ro"));
  EXPECT_EQ(refusal(path(), Access::read_only), "opened");
  ASSERT_EQ(::chmod(path().c_str(), 0), 0);
  EXPECT_THAT(refusal(path(), Access::read_only), HasSubstr("Permission denied; give your user the right"));
}

TEST_P(DiskImageTest, OneWriterOrManyReaders) {
  make(512);
  {
    const auto writer = DiskImage::open(path(), Access::read_write);
    ASSERT_TRUE(writer);
    EXPECT_THAT(refusal(path()), HasSubstr("another program uses it (another machine?); stop that one"));
    EXPECT_THAT(refusal(path(), Access::read_only), HasSubstr("another program writes to it"));
  }
  const auto reader = DiskImage::open(path(), Access::read_only);
  ASSERT_TRUE(reader);
  EXPECT_TRUE((*reader)->read_only());
  EXPECT_EQ(refusal(path(), Access::read_only), "opened");
  EXPECT_THAT(refusal(path()), HasSubstr("another program uses it"));
}

// HG61: the bytes of another format are bytes.
TEST_P(DiskImageTest, NeverProbesAFormat) {
  for (const std::string magic : {"QFI\xfb", "KDMV", "vhdxfile", "LUKS\xba\xbe"}) {
    {
      auto disk = DiskImage::open(make(4096), Access::read_write).value();
      EXPECT_EQ(write(*disk, 0, magic + std::string(512 - magic.size(), '\0')), 0);
    }
    auto disk = DiskImage::open(path(), Access::read_write).value();
    EXPECT_EQ(disk->size(), 4096U);
    EXPECT_EQ(read(*disk, 0, magic.size()), magic);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, DiskImageTest,
                         testing::Values(EventLoop::Engine::io_uring, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::io_uring ? "io_uring" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
