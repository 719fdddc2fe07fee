// SPDX-License-Identifier: Apache-2.0
#include "guest/init/root.h"

#include <cstdio>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

namespace guest {
namespace {

// A file with nothing but the names of an ext superblock, where ext2/3/4 keep them.
class Superblock {
 public:
  Superblock() {
    std::FILE* file = std::tmpfile();
    EXPECT_NE(file, nullptr);
    file_ = file;
    bytes_.assign(2048, '\0');
    bytes_[1024 + 56] = 0x53;
    bytes_[1024 + 57] = static_cast<char>(0xef);
    for (int i = 0; i < 16; ++i) bytes_[1024 + 104 + static_cast<size_t>(i)] = static_cast<char>(0x10 + i);
    std::memcpy(&bytes_[1024 + 120], "tiny", 4);
  }
  ~Superblock() { std::fclose(file_); }
  Superblock(const Superblock&) = delete;
  Superblock& operator=(const Superblock&) = delete;

  std::string& bytes() { return bytes_; }
  ExtNames read() {
    std::rewind(file_);
    EXPECT_EQ(std::fwrite(bytes_.data(), 1, bytes_.size(), file_), bytes_.size());
    std::fflush(file_);
    return read_ext_names(("/proc/self/fd/" + std::to_string(::fileno(file_))).c_str());
  }

 private:
  std::FILE* file_;
  std::string bytes_;
};

TEST(ExtNames, AreReadFromTheSuperblock) {
  Superblock block;
  const ExtNames names = block.read();
  ASSERT_TRUE(names.found);
  EXPECT_TRUE(same_label(names, "tiny"));
  EXPECT_FALSE(same_label(names, "tin"));
  EXPECT_TRUE(same_uuid(names, "10111213-1415-1617-1819-1a1b1c1d1e1f"));
  EXPECT_TRUE(same_uuid(names, "10111213-1415-1617-1819-1A1B1C1D1E1F"));
}

TEST(ExtNames, RefuseUuidsThatAreNotWhole) {
  Superblock block;
  const ExtNames names = block.read();
  EXPECT_FALSE(same_uuid(names, "10111213-1415-1617-1819-1a1b1c1d1e1e"));
  EXPECT_FALSE(same_uuid(names, "10111213-1415-1617-1819-1a1b1c1d1e"));
  EXPECT_FALSE(same_uuid(names, "10111213-1415-1617-1819-1a1b1c1d1e1f0"));
  EXPECT_FALSE(same_uuid(names, "z"));
  EXPECT_FALSE(same_uuid(names, Text{}));
}

TEST(ExtNames, MayFillTheWholeLabelField) {
  Superblock block;
  std::memcpy(&block.bytes()[1024 + 120], "0123456789abcdef", 16);
  EXPECT_TRUE(same_label(block.read(), "0123456789abcdef"));
}

TEST(ExtNames, AreNotFoundElsewhere) {
  Superblock block;
  block.bytes()[1024 + 56] = 0;
  EXPECT_FALSE(block.read().found);
  EXPECT_FALSE(read_ext_names("/nonexistent").found);
  EXPECT_FALSE(read_ext_names("/dev/null").found);
}

TEST(Locate, TakesOnlyBlockDevices) {
  Path device;
  EXPECT_FALSE(locate("/dev/null", device));
  EXPECT_FALSE(locate("/nonexistent", device));
  EXPECT_FALSE(locate("null", device));
  EXPECT_STREQ(device.c_str(), "/dev/null");
}

TEST(Locate, RefusesANameThatDoesNotFitInAPath) {
  Path device;
  const std::string name = "/dev/" + std::string(300, 'x');
  EXPECT_FALSE(locate(name.c_str(), device));
}

TEST(WaitFor, EndsWhenTheTimeIsOver) {
  RootWish wish;
  wish.device = "/dev/never";
  wish.wait_seconds = 0;
  Path device;
  EXPECT_FALSE(wait_for(wish, device));
}

}  // namespace
}  // namespace guest
