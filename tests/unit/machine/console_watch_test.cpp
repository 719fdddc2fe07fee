// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/console_watch.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

struct Watched {
  explicit Watched(std::vector<Expectation> steps) {
    auto created = ConsoleWatch::create(steps, [this](std::string_view text) { typed += text; });
    EXPECT_TRUE(created) << created.error().message;
    watch = std::move(*created);
  }
  void say(std::string_view text) { watch->append(std::as_bytes(std::span{text})); }
  std::unique_ptr<ConsoleWatch> watch;
  std::string typed;
};

TEST(ConsoleWatch, MeetsExpectationsInOrderAndAnswers) {
  Watched w{{{"login: $", "root\n"}, {"# $", ""}}};
  w.say("# not yet\r\nhost ");
  EXPECT_TRUE(w.watch->match().empty());
  w.say("login: ");
  ASSERT_EQ(w.watch->match().size(), 1U);
  EXPECT_EQ(w.typed, "root\n");
  EXPECT_FALSE(w.watch->all_met());
  EXPECT_EQ(w.watch->waiting_for(), "# $");
  EXPECT_TRUE(w.watch->match().empty());  // the "# " from before the first match does not count
  w.say("root@host:~# ");
  EXPECT_EQ(w.watch->match().size(), 1U);
  EXPECT_TRUE(w.watch->all_met());
}

TEST(ConsoleWatch, SeveralAtOnce) {
  Watched w{{{"one", ""}, {"two", "x"}, {"three", ""}}};
  w.say("one two three");
  EXPECT_EQ(w.watch->match().size(), 3U);
  EXPECT_EQ(w.typed, "x");
}

TEST(ConsoleWatch, ATextSplitOverWritesIsFound) {
  Watched w{{{"ready", ""}}};
  for (const char c : std::string_view{"...rea\rdy\0"}) w.say({&c, 1});
  EXPECT_EQ(w.watch->match().size(), 1U);
}

TEST(ConsoleWatch, AnchorsAreOfLines) {
  Watched w{{{"^done$", ""}}};
  w.say("not done\r\n");
  EXPECT_TRUE(w.watch->match().empty());
  w.say("done\r\nmore");
  EXPECT_EQ(w.watch->match().size(), 1U);
}

TEST(ConsoleWatch, AMatchSpansTheLastLines) {
  Watched w{{{"first\n(.+\n)+last", ""}}};
  w.say("first\n");
  for (int i = 0; i < 13; ++i) {
    w.say("between\n");
    EXPECT_TRUE(w.watch->match().empty());
  }
  w.say("last");
  EXPECT_EQ(w.watch->match().size(), 1U);
}

TEST(ConsoleWatch, WhatWasLookedAtLongAgoIsNotLookedAtAgain) {
  Watched w{{{"first\n(.+\n)+last", ""}}};
  w.say("first\n");
  for (int i = 0; i < 40; ++i) {
    w.say("between\n");
    EXPECT_TRUE(w.watch->match().empty());
  }
  w.say("last");
  EXPECT_TRUE(w.watch->match().empty());
}

TEST(ConsoleWatch, AMatchInALineLeavesNoBeginningOfOne) {
  Watched w{{{"login: ", ""}, {"^root", ""}}};
  w.say("login: root\n");
  EXPECT_EQ(w.watch->match().size(), 1U);
  w.say("root\n");
  EXPECT_EQ(w.watch->match().size(), 1U);
}

TEST(ConsoleWatch, ALineWithoutAnEndIsLookedAtInPart) {
  Watched w{{{"^x+y", ""}, {"xy", ""}}};
  for (int i = 0; i < 20; ++i) {
    w.say(std::string(1000, 'x'));
    EXPECT_TRUE(w.watch->match().empty());
  }
  w.say("y\nxy");
  EXPECT_EQ(w.watch->match().size(), 1U);  // the second line is the first that is seen to begin
}

TEST(ConsoleWatch, KeepsABoundedTail) {
  Watched w{{{"needle", ""}}};
  const std::string line(1023, 'x');
  for (int i = 0; i < 4096; ++i) w.say(line + "\n");
  w.say("needle\n");
  EXPECT_EQ(w.watch->match().size(), 1U);
  EXPECT_EQ(w.watch->bytes(), 4096U * 1024 + 7);
  EXPECT_EQ(w.watch->last_lines(1), "needle\n");
}

TEST(ConsoleWatch, LastLines) {
  Watched w{{}};
  EXPECT_EQ(w.watch->last_lines(3), "");
  EXPECT_EQ(w.watch->last_output(), ConsoleWatch::Clock::time_point{});
  w.say("a\nb\nc");
  EXPECT_EQ(w.watch->last_lines(2), "b\nc");
  EXPECT_EQ(w.watch->last_lines(9), "a\nb\nc");
  w.say("\n");
  EXPECT_EQ(w.watch->last_lines(1), "c\n");
  EXPECT_NE(w.watch->last_output(), ConsoleWatch::Clock::time_point{});
}

TEST(Pattern, RefusesABadExpression) {
  const auto bad = Pattern::create("(");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("\"(\""), std::string::npos);
}

}  // namespace
}  // namespace vmm
