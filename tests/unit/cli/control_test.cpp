// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/control.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace vmm::cli {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

constexpr uint64_t kMiB = 1 << 20;

class FakeControls final : public Controls {
 public:
  [[nodiscard]] Receipt receipt_so_far() const override {
    Receipt receipt;
    receipt.kernel = "a kernel";
    return receipt;
  }
  void ask_memory(std::function<void(const MemoryReport&)> done) override { done(memory); }
  Result<void> set_memory(uint64_t bytes) override {
    if (bytes > memory.size) return fail("too much");
    memory.target = bytes;
    return {};
  }
  Result<void> resize_disk(std::string_view disk, uint64_t bytes) override {
    if (disk != "vda") return fail("no such disk");
    disk_size = bytes;
    return {};
  }
  Result<void> press_power_button() override {
    if (!listens) return fail("does not listen");
    ++presses;
    return {};
  }
  void quit(std::string_view /*who*/) override { ++quits; }

  MemoryReport memory{
      .size = 512 * kMiB, .target = 512 * kMiB, .balloon = 0, .driver = true, .guest = std::nullopt};
  uint64_t disk_size = 0;
  bool listens = true;
  int presses = 0;
  int quits = 0;
};

class ControlTest : public testing::Test {
 protected:
  Json ask(std::string_view request) {
    std::vector<std::string> answers;
    answer_control(controls_, request, [&answers](std::string line) { answers.push_back(std::move(line)); });
    EXPECT_EQ(answers.size(), 1U) << request;
    if (answers.empty()) return {};
    EXPECT_EQ(answers.front().find('\n'), std::string::npos);
    return Json::parse(answers.front(), nullptr, false);
  }
  std::string refused(std::string_view request) {
    const auto answer = ask(request);
    EXPECT_EQ(answer["ok"], false) << request;
    return answer.value("error", "");
  }
  FakeControls controls_;
};

TEST_F(ControlTest, Stats) {
  controls_.memory.guest.emplace();
  controls_.memory.guest->values[4] = 77;
  const auto stats = ask(R"({"command": "stats"})")["stats"];
  EXPECT_EQ(stats["kernel"], "a kernel");
  EXPECT_FALSE(stats.contains("outcome"));
  EXPECT_EQ(stats["memory"]["target"], 512 * kMiB);
  EXPECT_EQ(stats["memory"]["guest"], Json({{"free-memory", 77}}));
  controls_.memory.guest.reset();
  EXPECT_TRUE(ask(R"({"command": "stats"})")["stats"]["memory"]["guest"].is_null());
}

TEST_F(ControlTest, Memory) {
  EXPECT_EQ(ask(R"({"command": "memory", "size": "256M"})"), Json({{"ok", true}, {"driver", true}}));
  EXPECT_EQ(controls_.memory.target, 256 * kMiB);
  EXPECT_THAT(refused(R"({"command": "memory", "size": "1G"})"), HasSubstr("too much"));
  EXPECT_THAT(refused(R"({"command": "memory", "size": "big"})"), HasSubstr("big"));
  EXPECT_THAT(refused(R"({"command": "memory", "size": 5})"), HasSubstr("size"));
  EXPECT_THAT(refused(R"({"command": "memory"})"), HasSubstr("size"));
  EXPECT_EQ(controls_.memory.target, 256 * kMiB);
}

TEST_F(ControlTest, Disk) {
  EXPECT_EQ(ask(R"({"command": "disk", "disk": "vda", "resize": "2G"})"), Json({{"ok", true}}));
  EXPECT_EQ(controls_.disk_size, 2048 * kMiB);
  EXPECT_THAT(refused(R"({"command": "disk", "disk": "vdb", "resize": "3G"})"), HasSubstr("no such disk"));
  EXPECT_THAT(refused(R"({"command": "disk", "disk": "vda", "resize": "more"})"), HasSubstr("more"));
  EXPECT_THAT(refused(R"({"command": "disk", "disk": "vda", "resize": 5})"), HasSubstr("\"resize\""));
  EXPECT_THAT(refused(R"({"command": "disk", "disk": 0, "resize": "3G"})"), HasSubstr("\"disk\""));
  EXPECT_THAT(refused(R"({"command": "disk", "disk": "vda"})"), HasSubstr("\"resize\""));
  EXPECT_THAT(refused(R"({"command": "disk", "disk": "vda", "resize": "3G", "size": "3G"})"),
              HasSubstr("\"size\""));
  EXPECT_EQ(controls_.disk_size, 2048 * kMiB);
}

TEST_F(ControlTest, PowerButtonAndQuit) {
  EXPECT_EQ(ask(R"({"command": "power-button"})"), Json({{"ok", true}}));
  EXPECT_EQ(controls_.presses, 1);
  controls_.listens = false;
  EXPECT_THAT(refused(R"({"command": "power-button"})"), HasSubstr("listen"));
  EXPECT_EQ(ask(R"({"command": "quit"})"), Json({{"ok", true}}));
  EXPECT_EQ(controls_.quits, 1);
}

TEST_F(ControlTest, AnythingElseIsRefused) {
  for (const std::string request :
       {"", "stats", "5", "[]", "{}", R"({"command": 5})", R"({"command": "reboot"})",
        R"({"command": "stats"} x)", R"({"command": "stats", "size": "1M"})",
        R"({"command": "quit", "now": true})", "\xff\xfe", R"({"command": "\ud800"})",
        R"({"COMMAND": "quit"})"}) {
    EXPECT_NE(refused(request), "") << request;
  }
  refused(std::string(60000, '['));
  refused(std::string(30000, '{'));
  EXPECT_EQ(controls_.quits, 0);
}

TEST(ControlRequest, IsMadeOfWords) {
  const auto made = [](std::vector<std::string> words) { return parse_control(words); };
  EXPECT_EQ(made({"web", "stats"})->text, R"({"command":"stats"})");
  EXPECT_EQ(made({"./s", "memory", "768M"})->text, R"({"command":"memory","size":"768M"})");
  EXPECT_EQ(made({"./s", "memory", "768M"})->machine, "./s");
  EXPECT_EQ(made({"web", "disk", "vdb", "resize", "2G"})->text,
            R"({"command":"disk","disk":"vdb","resize":"2G"})");
  for (const std::vector<std::string>& bad : {std::vector<std::string>{},
                                              {"web"},
                                              {"web", "dance"},
                                              {"web", "memory"},
                                              {"web", "stats", "x"},
                                              {"web", "disk", "vda"},
                                              {"web", "disk", "vda", "resize"},
                                              {"web", "disk", "vda", "grow", "2G"},
                                              {"web", "disk", "vda", "2G"},
                                              {"web", "disk", "vda", "resize", "2G", "x"}}) {
    EXPECT_THAT(made(bad).error().message, HasSubstr("memory SIZE"));
  }
}

TEST(FindDisk, ByWhatLinuxCallsIt) {
  EXPECT_EQ(find_disk("vda", 1).value_or(99), 0U);
  EXPECT_EQ(find_disk("vdz", 30).value_or(99), 25U);
  EXPECT_EQ(find_disk("vdaa", 30).value_or(99), 26U);
  EXPECT_EQ(find_disk("vdad", 30).value_or(99), 29U);
  EXPECT_EQ(find_disk("vdzz", 703).value_or(99), 701U);
  EXPECT_EQ(find_disk("vdaaa", 703).value_or(99), 702U);
  for (const auto* bad : {"", "vd", "vdb", "blk0", "VDA", "/dev/vda", "vdaa"}) {
    EXPECT_THAT(find_disk(bad, 1).error().message, testing::EndsWith("this machine has vda")) << bad;
  }
  EXPECT_THAT(find_disk("vdd", 3).error().message, HasSubstr("vda to vdc"));
  EXPECT_THAT(find_disk("vda", 0).error().message, HasSubstr("--disk"));
}

TEST(ControlPath, IsBelowTheRuntimeFolder) {
  ::setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  EXPECT_EQ(control_path("web-1.x_y").value_or(""), "/run/user/7/vmm/web-1.x_y");
  for (const auto* bad : {"", ".", "..", "-a", "a/b", "a b", "\xc3\xa4"})
    EXPECT_FALSE(control_path(bad)) << bad;
  EXPECT_FALSE(control_path(std::string(65, 'a')));
}

}  // namespace
}  // namespace vmm::cli
