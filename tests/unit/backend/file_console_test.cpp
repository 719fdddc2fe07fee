// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/file_console.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

class FileConsoleTest : public testing::Test {
 protected:
  FileConsoleTest() {
    std::string name = testing::TempDir() + "/consoleXXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  ~FileConsoleTest() override { std::filesystem::remove_all(folder_); }
  static std::string content(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream{path}.rdbuf();
    return text.str();
  }

  std::filesystem::path folder_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create();
};

TEST_F(FileConsoleTest, StartsAnewAndWritesAtOnce) {
  const auto path = folder_ / "log";
  std::ofstream{path} << "what an earlier run left behind";
  const auto console = FileConsole::create(*loop_, path);
  ASSERT_TRUE(console) << console.error().message;
  (*console)->write(std::as_bytes(std::span{"hello", 5}));
  EXPECT_EQ(content(path), "hello");
  EXPECT_EQ((*console)->dropped(), 0U);
}

TEST_F(FileConsoleTest, ErrorsNameTheFile) {
  const auto console = FileConsole::create(*loop_, folder_ / "no" / "log");
  ASSERT_FALSE(console);
  EXPECT_NE(console.error().message.find("no/log: No such file"), std::string::npos)
      << console.error().message;
  EXPECT_FALSE(FileConsole::create(*loop_, folder_));
}

TEST_F(FileConsoleTest, APipeWithoutAReaderIsRefused) {
  const auto path = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto console = FileConsole::create(*loop_, path);
  ASSERT_FALSE(console);
  EXPECT_NE(console.error().message.find("reader"), std::string::npos) << console.error().message;
}

TEST_F(FileConsoleTest, AFullDiskIsCounted) {
  const auto console = FileConsole::create(*loop_, "/dev/full");
  ASSERT_TRUE(console);
  (*console)->write(std::as_bytes(std::span{"hello", 5}));
  EXPECT_EQ((*console)->dropped(), 5U);
}

}  // namespace
}  // namespace vmm::backend
