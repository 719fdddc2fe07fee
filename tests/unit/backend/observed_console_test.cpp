// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/observed_console.h"

#include <atomic>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

// A user whose keys the test presses by hand, offering again what was refused.
class User final : public Console {
 public:
  void write(std::span<const std::byte> bytes) override {
    seen_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void set_input(Input input) override { input_ = std::move(input); }
  void resume() override { ++resumed_; }
  [[nodiscard]] WindowSize window() const override { return {}; }
  void set_resize(std::function<void(WindowSize)>) override {}
  [[nodiscard]] uint64_t dropped() const override { return 0; }

  std::string seen_;
  Input input_;
  std::atomic<int> resumed_{0};
};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

class ObservedConsoleTest : public testing::Test {
 protected:
  ObservedConsoleTest() {
    auto user = std::make_unique<User>();
    user_ = user.get();
    console_ =
        std::make_unique<ObservedConsole>(*loop_, std::move(user), [this](std::span<const std::byte> bytes) {
          observed_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        });
    console_->set_input([this](std::span<const std::byte> bytes) {
      const size_t taken = std::min(room_, bytes.size());
      room_ -= taken;
      typed_.append(reinterpret_cast<const char*>(bytes.data()), taken);
      return taken;
    });
    loop_.start();
  }
  ~ObservedConsoleTest() override { loop_.stop(); }

  RunningLoop loop_;
  User* user_;
  std::unique_ptr<ObservedConsole> console_;
  std::string observed_;
  size_t room_ = 100;  // loop's thread, like what follows
  std::string typed_;
};

TEST_F(ObservedConsoleTest, BothSeeTheOutput) {
  console_->write(bytes_of("login: "));
  EXPECT_EQ(user_->seen_, "login: ");
  EXPECT_EQ(observed_, "login: ");
}

TEST_F(ObservedConsoleTest, TypesAtTheGuestsPace) {
  loop_->call([&] { room_ = 2; });
  console_->type("root\n");
  loop_->call([&] {
    EXPECT_EQ(typed_, "ro");
    room_ = 100;
  });
  console_->resume();
  loop_.settle();
  loop_->call([&] { EXPECT_EQ(typed_, "root\n"); });
}

TEST_F(ObservedConsoleTest, TheUsersKeysComeBehindTypedText) {
  loop_->call([&] { room_ = 0; });
  console_->type("typed ");
  loop_->call([&] {
    EXPECT_EQ(user_->input_(bytes_of("keys")), 0U);
    room_ = 100;
  });
  console_->resume();
  loop_.settle();
  EXPECT_EQ(user_->resumed_.load(), 1);  // its keys are offered again
  loop_->call([&] {
    EXPECT_EQ(user_->input_(bytes_of("keys")), 4U);
    EXPECT_EQ(typed_, "typed keys");
  });
}

TEST_F(ObservedConsoleTest, TypedTextWaitsForADevice) {
  console_->set_input({});
  console_->type("early ");
  loop_.settle();
  std::string typed;
  console_->set_input([&](std::span<const std::byte> bytes) {
    typed.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return bytes.size();
  });
  console_->type("late");
  loop_.settle();
  loop_->call([&] { EXPECT_EQ(typed, "early late"); });
  console_->set_input({});
}

TEST_F(ObservedConsoleTest, ThreadsMayTypeAndResume) {
  loop_->call([&] { room_ = 1'000'000; });
  {
    std::jthread one{[&] {
      for (int i = 0; i < 1000; ++i) console_->type("1");
    }};
    std::jthread two{[&] {
      for (int i = 0; i < 1000; ++i) console_->resume();
    }};
  }
  loop_.settle();
  loop_->call([&] { EXPECT_EQ(typed_.size(), 1000U); });
}

}  // namespace
}  // namespace vmm::backend
