// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/serial_port.h"

#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/legacy/fakes.h"

namespace vmm::legacy {
namespace {

constexpr uint64_t kData = 0, kIer = 1, kIir = 2, kFcr = 2, kLsr = 5;

class SerialPortTest : public ::testing::Test {
 protected:
  // What is left of `text` after the port took what it would.
  std::string_view type(std::string_view text) { return text.substr(console_.type(text)); }
  // Reads until the receiver is empty, as an interrupt handler does.
  std::string drain() {
    std::string got;
    while ((port_in<uint8_t>(port_, kLsr) & 1) != 0)
      got.push_back(static_cast<char>(port_in<uint8_t>(port_, kData)));
    return got;
  }

  FakeConsole console_;
  FakeLine line_;
  SerialPort port_{console_, line_};
};

TEST_F(SerialPortTest, OutputReachesTheConsole) {
  for (const char c : std::string_view{"hello"}) port_out<uint8_t>(port_, kData, static_cast<uint8_t>(c));
  EXPECT_EQ(console_.output, "hello");
  EXPECT_EQ(line_.pulses, 0);
}

TEST_F(SerialPortTest, AWideAccessIsOneForEachRegister) {
  port_out<uint16_t>(port_, kData, 0x0100 | 'a');
  EXPECT_EQ(console_.output, "a");
  EXPECT_EQ(port_in<uint8_t>(port_, kIer), 0x01);
  EXPECT_EQ(port_in<uint32_t>(port_, kIer), 0x00000101U);  // IER, IIR, LCR, MCR
}

TEST_F(SerialPortTest, InputThatDoesNotFitWaitsInTheConsole) {
  port_out<uint8_t>(port_, kFcr, 0x01);
  std::string_view rest = type("The quick brown fox jumps over the lazy dog");
  EXPECT_EQ(console_.resumes, 0);
  std::string got;
  for (int turns = 1; !rest.empty(); ++turns) {
    got += drain();
    ASSERT_EQ(console_.resumes, turns);
    rest = type(rest);
  }
  got += drain();
  EXPECT_EQ(got, "The quick brown fox jumps over the lazy dog");
  EXPECT_EQ(console_.resumes, 2) << "once for each full FIFO";
}

TEST_F(SerialPortTest, NobodyReads) {
  port_out<uint8_t>(port_, kFcr, 0x01);
  EXPECT_EQ(type("0123456789abcdef").size(), 0U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(type("more").size(), 4U);
  EXPECT_EQ(console_.resumes, 0);
  port_out<uint8_t>(port_, kFcr, 0x03);  // thrown away by the guest: there is room again
  EXPECT_EQ(console_.resumes, 1);
}

TEST_F(SerialPortTest, TheInterruptIsAnEdge) {
  port_out<uint8_t>(port_, kFcr, 0x01);
  port_out<uint8_t>(port_, kIer, 0x01);
  type("a");
  EXPECT_EQ(line_.pulses, 1);
  type("b");
  EXPECT_EQ(line_.pulses, 1) << "the pin is up already";
  EXPECT_EQ(drain(), "ab");
  type("c");
  EXPECT_EQ(line_.pulses, 2);
}

// A handler fills the FIFO, is told "empty" at once, and stops when it has nothing left.
TEST_F(SerialPortTest, InterruptDrivenOutput) {
  std::string_view text = "0123456789abcdefghijklmnopqrstuvwxyz";
  port_out<uint8_t>(port_, kIer, 0x02);
  EXPECT_EQ(line_.pulses, 1);
  int handled = 0;
  for (int pulses = 0; pulses != line_.pulses; ++handled) {
    ASSERT_LT(handled, 100);
    pulses = line_.pulses;
    while ((port_in<uint8_t>(port_, kIir) & 1) == 0) {
      for (int i = 0; i < 16 && !text.empty(); ++i, text.remove_prefix(1)) {
        port_out<uint8_t>(port_, kData, static_cast<uint8_t>(text.front()));
      }
      if (text.empty()) port_out<uint8_t>(port_, kIer, 0);
    }
  }
  EXPECT_EQ(console_.output, "0123456789abcdefghijklmnopqrstuvwxyz");
}

TEST_F(SerialPortTest, ResetKeepsWaitingInput) {
  port_out<uint8_t>(port_, kFcr, 0x01);
  port_out<uint8_t>(port_, kIer, 0x01);
  EXPECT_EQ(type("0123456789abcdefghij"), "ghij");
  port_.reset();
  EXPECT_EQ(console_.resumes, 1);
  EXPECT_EQ(port_in<uint8_t>(port_, kIer), 0);
  EXPECT_EQ(type("ghij"), "hij");
}

TEST_F(SerialPortTest, LetsGoOfTheConsole) {
  FakeConsole console;
  {
    const SerialPort port(console, line_);
  }
  EXPECT_FALSE(console.input);
}

TEST_F(SerialPortTest, Hammered) {
  hammer(port_, SerialPort::kPorts, 100'000);
}

// Two vCPUs and the console's loop at once: for the thread sanitizer.
TEST_F(SerialPortTest, ThreadsDoNotMixUp) {
  port_out<uint8_t>(port_, kFcr, 0x01);
  std::jthread reader([this] {
    for (int i = 0; i < 20'000; ++i) (void)port_in<uint8_t>(port_, static_cast<uint64_t>(i) % 8);
  });
  std::jthread loop([this] {
    for (int i = 0; i < 20'000; ++i) type("abc");
  });
  for (int i = 0; i < 20'000; ++i) port_out<uint8_t>(port_, kIer, static_cast<uint8_t>(i));
}

}  // namespace
}  // namespace vmm::legacy
