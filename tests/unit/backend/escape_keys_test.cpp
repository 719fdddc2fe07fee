// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/escape_keys.h"

#include <vector>

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

using Action = EscapeKeys::Action;

struct Pressed {
  std::string to_guest;
  std::vector<Action> actions;  // those that are not none
};

Pressed press(std::string_view keys) {
  EscapeKeys escape;
  Pressed pressed;
  for (const char key : keys) {
    const auto action = escape.press(static_cast<std::byte>(key), pressed.to_guest);
    if (action != Action::none) pressed.actions.push_back(action);
  }
  return pressed;
}

TEST(EscapeKeys, EverythingElseIsTheGuests) {
  std::string all;
  for (int i = 0; i < 256; ++i) {
    if (i != 1) all += static_cast<char>(i);
  }
  const auto pressed = press(all);
  EXPECT_EQ(pressed.to_guest, all);
  EXPECT_TRUE(pressed.actions.empty());
}

TEST(EscapeKeys, Quit) {
  const auto pressed = press("a\x01xb");
  EXPECT_EQ(pressed.to_guest, "ab");
  EXPECT_EQ(pressed.actions, (std::vector{Action::quit}));
}

TEST(EscapeKeys, Help) {
  EXPECT_EQ(press("\x01h\x01?").actions, (std::vector{Action::help, Action::help}));
  for (const auto* text : {"Ctrl-A x", "Ctrl-A h", "Ctrl-A Ctrl-A"}) {
    EXPECT_NE(EscapeKeys::kHelp.find(text), std::string_view::npos) << text;
  }
}

TEST(EscapeKeys, TwiceIsOneForTheGuest) {
  const auto pressed = press("\x01\x01x");
  EXPECT_EQ(pressed.to_guest, "\x01x");
  EXPECT_TRUE(pressed.actions.empty());
}

TEST(EscapeKeys, UnknownSecondKeyIsSwallowed) {
  EXPECT_EQ(press("\x01qx").to_guest, "x");
}

}  // namespace
}  // namespace vmm::backend
