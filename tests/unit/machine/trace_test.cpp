// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/trace.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace vmm {
namespace {

using Json = nlohmann::json;
using std::chrono::microseconds;

std::string path_for(const char* name) {
  return testing::TempDir() + "trace_test." + std::to_string(::getpid()) + "." + name;
}

Json parse(const std::string& path) {
  std::ifstream file{path};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  return Json::parse(text, nullptr, false);
}

TEST(Trace, SaysWhatWasAccessedWhenAndForHowLong) {
  const auto path = path_for("one");
  const auto begin = Trace::Clock::now();
  {
    auto trace = Trace::create(path, begin);
    ASSERT_TRUE(trace) << trace.error().message;
    {
      Trace::Track track{**trace, 3, "vcpu3"};
      track.slice({.space = "port",
                   .device = "serial",
                   .write = true,
                   .address = 0x3f9,
                   .offset = 1,
                   .value = 0x41,
                   .size = 1,
                   .count = 2},
                  begin + microseconds{10}, begin + microseconds{12});
      track.slice("interrupted", begin + microseconds{20}, begin + microseconds{21});
    }
    (*trace)->instant("init", begin + microseconds{30});
  }
  const auto events = parse(path);
  ASSERT_TRUE(events.is_array());
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(events[1]["args"]["name"], "vcpu3");
  const auto& access = events[2];
  EXPECT_EQ(access["name"], "serial write 0x1");
  EXPECT_EQ(access["tid"], 3);
  EXPECT_EQ(access["ts"], 10.0);
  EXPECT_EQ(access["dur"], 2.0);
  EXPECT_EQ(access["args"]["address"], "0x3f9");
  EXPECT_EQ(access["args"]["value"], "0x41");
  EXPECT_EQ(access["args"]["count"], 2);
  EXPECT_EQ(events[3]["name"], "interrupted");
  EXPECT_EQ(events[4]["ph"], "i");
  EXPECT_EQ(events[4]["ts"], 30.0);
  ::unlink(path.c_str());
}

// What is kept back is bounded: a VMM that is killed leaves almost all of its trace.
TEST(Trace, IsWrittenAsItGrows) {
  const auto path = path_for("long");
  const auto begin = Trace::Clock::now();
  auto trace = Trace::create(path, begin);
  ASSERT_TRUE(trace) << trace.error().message;
  Trace::Track track{**trace, 0, "vcpu0"};
  constexpr size_t kEvents = 20'000;
  for (size_t i = 0; i < kEvents; ++i) track.slice("exit", begin, begin);
  std::ifstream file{path};
  const std::string so_far{std::istreambuf_iterator<char>{file}, {}};
  const auto lines = static_cast<size_t>(std::count(so_far.begin(), so_far.end(), '\n'));
  EXPECT_GT(lines, kEvents - 2000);
  EXPECT_FALSE(Json::parse(so_far + "]", nullptr, false).is_discarded());  // whole events
  ::unlink(path.c_str());
}

TEST(Trace, AFileThatCannotBeMadeIsAnError) {
  const auto trace = Trace::create("/nowhere/at/all", Trace::Clock::now());
  ASSERT_FALSE(trace);
  EXPECT_NE(trace.error().message.find("/nowhere/at/all"), std::string::npos);
}

// The run goes on when the disk is full, and that is said once.
TEST(Trace, AFullDiskEndsTheTraceAlone) {
  testing::internal::CaptureStderr();
  {
    auto trace = Trace::create("/dev/full", Trace::Clock::now());
    ASSERT_TRUE(trace) << trace.error().message;
    (*trace)->instant("init", Trace::Clock::now());
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "vmm: error: trace /dev/full: No space left on device, the rest of the run is not traced\n");
}

}  // namespace
}  // namespace vmm
