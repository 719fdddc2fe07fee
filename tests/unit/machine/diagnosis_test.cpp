// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/diagnosis.h"

#include <gtest/gtest.h>

#include "vmm/machine/outcome.h"

namespace vmm {
namespace {

std::string diagnose(const Config& config, std::string last_lines, const Receipt& receipt = {}) {
  std::string all;
  for (const auto& line : diagnose_silence(
           {config, std::chrono::seconds{30}, std::move(last_lines), {"vCPU 0: RIP 0x10"}, receipt})) {
    all += line + "\n";
  }
  return all;
}

TEST(Diagnosis, NamesWhereTheVcpusAre) {
  const auto text = diagnose({}, "");
  EXPECT_NE(text.find("30 s"), std::string::npos);
  EXPECT_NE(text.find("RIP 0x10"), std::string::npos);
}

TEST(Diagnosis, RootThatIsNotFound) {
  const auto text = diagnose({}, "VFS: Cannot open root device \"vda\" or unknown-block(0,0): error -6\n");
  EXPECT_NE(text.find("no driver for the disk"), std::string::npos);
  EXPECT_NE(text.find("--initrd"), std::string::npos);
}

TEST(Diagnosis, ConsoleElsewhere) {
  Config config;
  config.cmdline = "console=tty0";
  EXPECT_NE(diagnose(config, "").find("console=ttyS0"), std::string::npos);
  EXPECT_EQ(diagnose({}, "").find("--cmdline has no"), std::string::npos);
}

TEST(Diagnosis, ALoopOnOnePort) {
  Receipt receipt;
  receipt.exits = {{"port read", 100000}};
  receipt.accesses = {{"port", "acpi-pm", 10, 0}, {"port", "unmapped", 99990, 0}};
  const auto text = diagnose({}, "booting\n", receipt);
  EXPECT_NE(text.find("loops on unmapped"), std::string::npos);
}

TEST(Diagnosis, PromptsWaitForAPerson) {
  EXPECT_TRUE(looks_like_prompt("host login: "));
  EXPECT_TRUE(looks_like_prompt("/ # "));
  EXPECT_FALSE(looks_like_prompt("[    1.0] Waiting for root device /dev/vda...\n"));
  EXPECT_FALSE(looks_like_prompt(""));
}

TEST(Outcome, ExitCodes) {
  EXPECT_EQ(exit_code({.kind = Outcome::Kind::power_off, .status = 0, .detail = {}}), 0);
  EXPECT_EQ(exit_code({.kind = Outcome::Kind::guest_panic, .status = 0, .detail = {}}), 3);
  EXPECT_EQ(exit_code({.kind = Outcome::Kind::debug_exit, .status = 33, .detail = {}}), 33);
  EXPECT_EQ(exit_code({.kind = Outcome::Kind::signal, .status = 15, .detail = {}}), 143);
}

}  // namespace
}  // namespace vmm
