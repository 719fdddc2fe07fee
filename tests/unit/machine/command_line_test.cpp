// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm {
namespace {

bool has_word(const std::string& line, const std::string& word) {
  return (" " + line + " ").find(" " + word + " ") != std::string::npos;
}

TEST(CommandLine, TheFirstDiskIsTheRoot) {
  Config config;
  EXPECT_EQ(guest_command_line(config).find("root="), std::string::npos);
  config.disks.push_back({.file = "a.img", .read_only = false, .serial = {}});
  EXPECT_TRUE(has_word(guest_command_line(config), "root=/dev/vda"));
  EXPECT_TRUE(has_word(guest_command_line(config), "rw"));
  config.disks.front().read_only = true;
  EXPECT_TRUE(has_word(guest_command_line(config), "ro"));
  EXPECT_TRUE(has_word(guest_command_line(config), "console=ttyS0"));
}

// Of several of a kind the kernel takes the last: what a user appends must win.
TEST(CommandLine, WordsOfOursComeFirstAndEachSaysWhatItIsFor) {
  Config config;
  config.append = "loglevel=7";
  const auto line = guest_command_line(config);
  EXPECT_LT(line.find("loglevel=5"), line.find("loglevel=7"));
  EXPECT_TRUE(has_word(line, "cryptomgr.notests"));
  for (const auto& [word, purpose] : default_command_line(config)) {
    EXPECT_TRUE(has_word(line, word));
    EXPECT_FALSE(purpose.empty()) << word;
  }
  EXPECT_TRUE(has_word(line, "rcupdate.rcu_expedited=1"));
  config.cpus = 2;
  EXPECT_FALSE(has_word(guest_command_line(config), "rcupdate.rcu_expedited=1"));
  config.transport = Transport::mmio_cmdline;
  EXPECT_TRUE(has_word(guest_command_line(config), "pci=off"));
}

TEST(CommandLine, CmdlineReplacesAndAppendAdds) {
  Config config;
  config.append = "quiet";
  EXPECT_TRUE(guest_command_line(config).ends_with(" quiet"));
  config.cmdline = "mine";
  config.append.clear();
  EXPECT_EQ(guest_command_line(config), "mine");
}

TEST(CommandLine, TheVirtioConsoleOnTheTerminalIsTheGuests) {
  Config config;
  EXPECT_THAT(guest_command_line(config), testing::Not(testing::HasSubstr("hvc0")));
  config.virtio_console.kind = ConsoleConfig::Kind::file;
  EXPECT_THAT(guest_command_line(config), testing::Not(testing::HasSubstr("hvc0")));
  config.virtio_console.kind = ConsoleConfig::Kind::stdio;
  // The last one that there is becomes /dev/console.
  EXPECT_TRUE(guest_command_line(config).starts_with("console=ttyS0 console=hvc0 "));
}

TEST(CommandLine, MmioDevicesForKernelsWithoutAcpi) {
  Config config;
  config.cmdline = "x";
  config.transport = Transport::mmio;
  EXPECT_EQ(guest_command_line(config), "x");
  config.transport = Transport::mmio_cmdline;
  config.nets.emplace();
  config.disks.push_back({.file = "a.img", .read_only = false, .serial = {}});
  // The disk, the entropy source and the balloon.
  EXPECT_EQ(guest_command_line(config),
            "x virtio_mmio.device=4K@0xfeb00000:5:0 virtio_mmio.device=4K@0xfeb01000:6:1 "
            "virtio_mmio.device=4K@0xfeb02000:7:2");
  config.vsock.emplace();
  EXPECT_TRUE(guest_command_line(config).ends_with("virtio_mmio.device=4K@0xfeb03000:10:3"));
}

}  // namespace
}  // namespace vmm
