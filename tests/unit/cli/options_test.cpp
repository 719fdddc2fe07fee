// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/options.h"

#include <fstream>

#include <gtest/gtest.h>

#include "vmm/cli/config_file.h"

namespace vmm::cli {
namespace {

Result<Command> parse(std::vector<const char*> words) {
  words.insert(words.begin(), "vmm");
  return parse_command_line(words);
}

std::string error_of(std::vector<const char*> words) {
  const auto command = parse(std::move(words));
  return command ? "" : command.error().message;
}

// A file in the test's own folder.
std::filesystem::path write(const std::string& name, const std::string& text) {
  const auto path = std::filesystem::path{testing::TempDir()} / name;
  std::ofstream{path} << text;
  return path;
}

TEST(Options, Defaults) {
  const auto command = parse({"--kernel", "k"});
  ASSERT_TRUE(command) << command.error().message;
  EXPECT_EQ(command->kind, Command::Kind::run);
  EXPECT_EQ(command->config.cpus, 1U);
  EXPECT_EQ(command->config.memory, 512ULL << 20);
  EXPECT_EQ(networks(command->config).size(), 1U);
  EXPECT_TRUE(command->config.reboot);
}

TEST(Options, ListsKeepTheirOrder) {
  const auto command =
      parse({"--kernel", "k", "--disk", "a", "--disk", "b,ro", "--net", "none", "--no-reboot"});
  ASSERT_TRUE(command) << command.error().message;
  ASSERT_EQ(command->config.disks.size(), 2U);
  EXPECT_EQ(command->config.disks[1].file, "b");
  EXPECT_TRUE(networks(command->config).empty());
  EXPECT_FALSE(command->config.reboot);
}

TEST(Options, SendBelongsToTheExpectBeforeIt) {
  const auto command =
      parse({"--kernel", "k", "--expect", "a", "--expect", "b", "--send", "x\\n", "--expect", "c"});
  ASSERT_TRUE(command) << command.error().message;
  ASSERT_EQ(command->config.expectations.size(), 3U);
  EXPECT_EQ(command->config.expectations[0].answer, "");
  EXPECT_EQ(command->config.expectations[1].answer, "x\n");
  EXPECT_NE(error_of({"--kernel", "k", "--send", "x"}), "");
}

TEST(Options, WrongValuesAreNamed) {
  EXPECT_NE(error_of({}).find("--kernel"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--memory", "1M"}).find("64M"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--memory", "64G", "--cpus", "0"}).find("--cpus"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--cpus", "255"}).find("254"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--memory", "129M,hugepages=2M"}).find("not a multiple of 2M"),
            std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--memory", "2T"}).find("1T"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--frobnicate"}).find("frobnicate"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--expect", "("}).find("expression"), std::string::npos);
  EXPECT_NE(error_of({"--kernel", "k", "--virtio-console", "stdio"}).find("--console"), std::string::npos);
}

TEST(Options, HelpManualAndCompletionComeFromOneTable) {
  const auto help = parse({"--help"});
  const auto manual = parse({"--print-manual"});
  const auto completion = parse({"--print-completion"});
  for (const auto* command : {&help, &manual, &completion}) {
    ASSERT_TRUE(*command);
    EXPECT_EQ((*command)->kind, Command::Kind::print_text);
  }
  EXPECT_NE(help->text.find("--disk"), std::string::npos);
  EXPECT_NE(manual->text.find("\\-\\-disk"), std::string::npos);
  EXPECT_NE(completion->text.find("--disk"), std::string::npos);
  EXPECT_EQ(help->text.find("--print-manual"), std::string::npos);  // for the build only
}

TEST(ConfigFile, SaysAllThatTheOptionsSay) {
  const auto command = parse({
      "--kernel",    "k",           "--initrd",
      "i",           "--append",    "quiet",
      "--cpus",      "3,pin=0,2,1", "--cpu",
      "host,-avx2",  "--memory",    "1G,hugepages=none",
      "--disk",      "a,,b,ro",     "--disk",
      "c",           "--net",       "tap=t0",
      "--console",   "file=log",    "--virtio-console",
      "socket=s",    "--transport", "mmio",
      "--rtc",       "--pit",       "--debug-ports",
      "--no-reboot", "--no-kaslr",  "--kernel-cache",
      "none",        "--stats",     "out.json",
      "--trace",     "trace.json",  "--symbols",
      "vmlinux",     "--silence",   "7",
      "--log",       "debug",       "--expect",
      "x",           "--send",      "y\\n",
      "--timeout",   "2.5",         "--flat-address",
      "0x7c00",      "--vsock",     "cid=7,path=v,,s",
  });
  ASSERT_TRUE(command) << command.error().message;
  const auto text = write_config(command->config);
  const auto path = write("all.json", text);
  Config read;
  const auto result = read_config_file(path, read);
  ASSERT_TRUE(result) << result.error().message << "\n" << text;
  EXPECT_EQ(read.kernel, path.parent_path() / "k");  // relative to the file
  EXPECT_EQ(read.disks.at(0).file, path.parent_path() / "a,b");
  // What it says is what was said, but for those paths.
  std::string relative = write_config(read);
  const auto folder = path.parent_path().string() + "/";
  for (size_t at = 0; (at = relative.find(folder)) != std::string::npos;) relative.erase(at, folder.size());
  EXPECT_EQ(relative, text);
}

TEST(ConfigFile, OptionsOverrideIt) {
  const auto path = write("base.json", R"({"kernel": "/k", "cpus": 4, "disk": ["/a", "/b"], // shared
                                          "net": []})");
  const auto command = parse({"--config", path.c_str(), "--cpus", "2", "--disk", "/c"});
  ASSERT_TRUE(command) << command.error().message;
  EXPECT_EQ(command->config.kernel, "/k");
  EXPECT_EQ(command->config.cpus, 2U);
  ASSERT_EQ(command->config.disks.size(), 1U);  // a list replaces the list
  EXPECT_EQ(command->config.disks[0].file, "/c");
  EXPECT_TRUE(networks(command->config).empty());
}

TEST(ConfigFile, FaultsNameTheFileAndTheKey) {
  const auto fault = [](const std::string& text) {
    Config config;
    const auto read = read_config_file(write("bad.json", text), config);
    return read ? std::string{} : read.error().message;
  };
  EXPECT_NE(fault("{").find("bad.json"), std::string::npos);
  EXPECT_NE(fault("[]").find("object"), std::string::npos);
  EXPECT_NE(fault(R"({"kernal": "k"})").find("kernal"), std::string::npos);
  EXPECT_NE(fault(R"({"cpus": "many"})").find("cpus"), std::string::npos);
  EXPECT_NE(fault(R"({"cpus": -1})").find("cpus"), std::string::npos);
  EXPECT_NE(fault(R"({"memory": 5})").find("memory"), std::string::npos);
  EXPECT_NE(fault(R"({"disk": "a"})").find("list"), std::string::npos);
  EXPECT_NE(fault(R"({"rtc": 1})").find("rtc"), std::string::npos);
  EXPECT_NE(fault(R"({"expect": [{"send": "x"}]})").find("regex"), std::string::npos);
  EXPECT_NE(fault(std::string(2 << 20, ' ')).find("1 MiB"), std::string::npos);
  EXPECT_NE(fault(std::string(500000, '[')), "");
  Config config;
  EXPECT_FALSE(read_config_file("/nonexistent/x.json", config));
}

}  // namespace
}  // namespace vmm::cli
