// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/report_text.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace vmm::cli {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;

constexpr uint64_t kMiB = 1 << 20;

Receipt a_receipt() {
  Receipt receipt;
  receipt.outcome = {.kind = Outcome::Kind::guest_panic, .status = 0, .detail = "the guest's kernel died"};
  receipt.kernel = "bzImage, unpacked here";
  receipt.engine = "io_uring";
  receipt.first_instruction = microseconds{12'340};
  receipt.wall = milliseconds{2000};
  receipt.cpu_guest = milliseconds{1500};
  receipt.cpu_vmm = milliseconds{250};
  receipt.phases = {{"memory", milliseconds{3}, 4096}, {"kernel", milliseconds{9}, 0}};
  receipt.marks = {{"init", milliseconds{700}}};
  receipt.met = {{"login:", milliseconds{900}}};
  receipt.exits = {{"port write", 40}, {"mmio read", 2}};
  receipt.accesses = {{"port", "serial", 5, 35}};
  receipt.traffic = {{"vda", 8192, 512}};
  receipt.interrupts = 17;
  receipt.memory_size = 512 * kMiB;
  receipt.memory_touched = 64 * kMiB + kMiB / 2;
  receipt.memory_vmm = 4 * kMiB;
  receipt.memory_program = 2 * kMiB;
  receipt.memory_heap = kMiB / 2;
  receipt.kvm = {{"halts", 3}, {"exits", 1234}};
  return receipt;
}

TEST(ReceiptText, SaysHowItEndedAndWhatItCost) {
  const auto text = receipt_text(a_receipt());
  for (const auto* line : {
           "receipt: guest_panic (the guest's kernel died)\n",
           "kernel         bzImage, unpacked here\n",
           "start          12.3 ms to the first instruction, memory 3.0, kernel 9.0\n",
           "init         700.0 ms\n",
           "seen         900.0 ms  login:\n",
           "time           2000.0 ms, CPU: guest 1500.0 ms, VMM 250.0 ms\n",
           "exits          42 to user space, port write 40, mmio read 2\n",
           "serial       5 reads, 35 writes (port)\n",
           "interrupts     17\n",
           "vda            8192 bytes to the guest, 512 from it\n",
           "memory         64.5 of 512 MiB touched by the guest\n",
           "4.0 MiB beside it: program 2.0, heap 0.5, stacks and buffers 1.5\n",
           "KVM            1234 exits in all\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(ReceiptText, WhatDidNotHappenHasNoLine) {
  EXPECT_THAT(receipt_text(a_receipt()), Not(HasSubstr("resets")));
  const auto text = receipt_text({});
  EXPECT_THAT(text, AllOf(HasSubstr("receipt: power_off\n"), HasSubstr("0 to user space\n")));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("KVM")), Not(HasSubstr("seen")), Not(HasSubstr("()"))));
  auto restarted = a_receipt();
  restarted.resets = 2;
  EXPECT_THAT(receipt_text(restarted), HasSubstr("resets         2\n"));
}

TEST(ReceiptJson, SaysTheSameToPrograms) {
  const auto json = Json::parse(receipt_json(a_receipt()));
  EXPECT_EQ(json["outcome"],
            (Json{{"kind", "guest_panic"}, {"detail", "the guest's kernel died"}, {"exit_code", 3}}));
  EXPECT_EQ(json["io_engine"], "io_uring");
  EXPECT_EQ(
      json["times_ms"],
      (Json{{"first_instruction", 12.34}, {"wall", 2000.0}, {"cpu_guest", 1500.0}, {"cpu_vmm", 250.0}}));
  EXPECT_EQ(json["phases"][0], (Json{{"name", "memory"}, {"ms", 3.0}, {"bytes", 4096}}));
  EXPECT_EQ(json["marks"][0], (Json{{"name", "init"}, {"ms", 700.0}}));
  EXPECT_EQ(json["expectations_met"][0], (Json{{"regex", "login:"}, {"ms", 900.0}}));
  const auto& exits = json["exits_to_user_space"];
  EXPECT_EQ(exits["total"], 42);
  EXPECT_EQ(exits["by_reason"], (Json{{"port write", 40}, {"mmio read", 2}}));
  EXPECT_EQ(exits["by_device"][0],
            (Json{{"device", "serial"}, {"space", "port"}, {"reads", 5}, {"writes", 35}}));
  EXPECT_EQ(json["traffic_bytes"][0], (Json{{"device", "vda"}, {"in", 8192}, {"out", 512}}));
  EXPECT_EQ(json["memory_bytes"]["guest_touched"], 64 * kMiB + kMiB / 2);
  EXPECT_EQ(json["kvm"], (Json{{"halts", 3}, {"exits", 1234}}));
}

// A detail may hold what a guest said.
TEST(ReceiptJson, AnyBytesAreStillJson) {
  Receipt receipt;
  receipt.outcome.detail = "\xff\"\n";
  EXPECT_FALSE(Json::parse(receipt_json(receipt), nullptr, false).is_discarded());
}

TEST(OutcomeName, EachHasItsOwn) {
  std::vector<std::string_view> names;
  for (auto kind = uint8_t{0}; kind <= static_cast<uint8_t>(Outcome::Kind::quit); ++kind) {
    const auto name = outcome_name(Outcome::Kind{kind});
    EXPECT_THAT(names, Not(testing::Contains(name)));
    names.push_back(name);
  }
  EXPECT_EQ(names.front(), "power_off");
  EXPECT_EQ(names.back(), "quit");
}

HostReport a_host(HostReport::Kind kind) {
  using Verdict = HostReport::Verdict;
  return {kind,
          {{"/dev/kvm", Verdict::good, "works", ""},
           {"io_uring", Verdict::missing_optional, "forbidden", "allow it"},
           {"KVM_CAP_IRQFD", Verdict::bad, "not there", "a newer kernel"}}};
}

TEST(HostText, EachFindingHasItsSignAndItsRemedy) {
  EXPECT_EQ(host_text(a_host(HostReport::Kind::hardware)),
            "ok  /dev/kvm: works\n"
            "--  io_uring: forbidden\n"
            "      -> allow it\n"
            "BAD KVM_CAP_IRQFD: not there\n"
            "      -> a newer kernel\n"
            "This host runs Linux guests.\n");
  EXPECT_THAT(host_text({.kind = HostReport::Kind::emulating, .findings = {}}), HasSubstr("need the lab"));
  EXPECT_THAT(host_text({.kind = HostReport::Kind::unusable, .findings = {}}), HasSubstr("runs no guests"));
}

TEST(HostJson, SaysWhetherLinuxRuns) {
  const auto json = Json::parse(host_json(a_host(HostReport::Kind::hardware)));
  EXPECT_EQ(json["host"], "hardware");
  EXPECT_EQ(json["runs_linux"], true);
  ASSERT_EQ(json["findings"].size(), 3U);
  EXPECT_EQ(
      json["findings"][1],
      (Json{
          {"subject", "io_uring"}, {"verdict", "optional"}, {"fact", "forbidden"}, {"remedy", "allow it"}}));
  EXPECT_EQ(json["findings"][2]["verdict"], "bad");
  EXPECT_EQ(Json::parse(host_json(a_host(HostReport::Kind::emulating)))["runs_linux"], false);
}

}  // namespace
}  // namespace vmm::cli
