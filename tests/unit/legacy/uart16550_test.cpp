// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/uart16550.h"

#include <random>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace vmm::legacy {
namespace {

constexpr uint64_t kData = 0, kIer = 1, kIir = 2, kFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6,
                   kScratch = 7;

size_t receive(Uart16550& uart, std::string_view text) {
  return uart.receive(std::as_bytes(std::span{text}));
}
void out(Uart16550& uart, uint64_t offset, int value) {
  EXPECT_FALSE(uart.write(offset, static_cast<uint8_t>(value))) << "a byte was sent";
}

TEST(Uart16550, PowerOn) {
  Uart16550 uart;
  EXPECT_EQ(uart.read(kIer), 0);
  EXPECT_EQ(uart.read(kIir), 0x01);
  EXPECT_EQ(uart.read(kLcr), 0);
  EXPECT_EQ(uart.read(kMcr), 0);
  EXPECT_EQ(uart.read(kLsr), 0x60);
  EXPECT_EQ(uart.read(kMsr), 0xb0);
  EXPECT_FALSE(uart.interrupt());
}

TEST(Uart16550, SendsBytes) {
  Uart16550 uart;
  EXPECT_EQ(uart.write(kData, 'x'), std::byte{'x'});
  EXPECT_EQ(uart.read(kLsr), 0x60);
}

TEST(Uart16550, DivisorLatchHidesDataAndInterruptEnable) {
  Uart16550 uart;
  out(uart, kIer, 0x05);
  out(uart, kLcr, 0x83);
  out(uart, kData, 0x34);
  out(uart, kIer, 0x12);
  EXPECT_EQ(uart.read(kData), 0x34);
  EXPECT_EQ(uart.read(kIer), 0x12);
  out(uart, kData, 0);  // a divisor of zero divides nothing here
  out(uart, kIer, 0);
  out(uart, kLcr, 0x03);
  EXPECT_EQ(uart.read(kIer), 0x05);
  EXPECT_EQ(uart.write(kData, 'y'), std::byte{'y'});
}

TEST(Uart16550, WithoutFifoHoldsOneByte) {
  Uart16550 uart;
  EXPECT_EQ(uart.room(), 1U);
  EXPECT_EQ(receive(uart, "ab"), 1U);
  EXPECT_EQ(receive(uart, "b"), 0U);
  EXPECT_EQ(uart.read(kLsr), 0x61);  // ready, and no overrun: the sender was told
  EXPECT_EQ(uart.read(kData), 'a');
  EXPECT_EQ(uart.read(kLsr), 0x60);
  EXPECT_EQ(uart.read(kData), 0);
  EXPECT_EQ(uart.room(), 1U);
}

TEST(Uart16550, FifoHoldsSixteenInOrder) {
  Uart16550 uart;
  out(uart, kFcr, 0x01);
  EXPECT_EQ(receive(uart, "0123456789"), 10U);
  EXPECT_EQ(uart.read(kData), '0');
  EXPECT_EQ(receive(uart, "abcdefghijk"), 7U);  // wraps in the FIFO
  EXPECT_EQ(uart.room(), 0U);
  std::string got;
  while ((uart.read(kLsr) & 1) != 0) got.push_back(static_cast<char>(uart.read(kData)));
  EXPECT_EQ(got, "123456789abcdefg");
  EXPECT_TRUE(uart.receiver_empty());
}

TEST(Uart16550, FifoControlClears) {
  Uart16550 uart;
  out(uart, kFcr, 0x01);
  EXPECT_EQ(receive(uart, "abc"), 3U);
  out(uart, kFcr, 0x02);  // off: the clear bit does not count, but the change of mode empties
  EXPECT_EQ(uart.read(kLsr), 0x60);
  out(uart, kFcr, 0x01);
  EXPECT_EQ(receive(uart, "abc"), 3U);
  out(uart, kFcr, 0x05);  // clears the transmitter only
  EXPECT_EQ(uart.read(kLsr), 0x61);
  out(uart, kFcr, 0x03);
  EXPECT_EQ(uart.read(kLsr), 0x60);
}

TEST(Uart16550, ReceiverInterrupt) {
  Uart16550 uart;
  out(uart, kFcr, 0x81);  // trigger level 8
  out(uart, kIer, 0x01);
  EXPECT_FALSE(uart.interrupt());
  EXPECT_EQ(receive(uart, "a"), 1U);
  EXPECT_TRUE(uart.interrupt());
  EXPECT_EQ(uart.read(kIir), 0xcc);  // below the level: time-out
  EXPECT_EQ(receive(uart, "bcdefgh"), 7U);
  EXPECT_EQ(uart.read(kIir), 0xc4);
  EXPECT_EQ(uart.read(kIir), 0xc4);  // reading it settles nothing
  for (int i = 0; i < 8; ++i) EXPECT_EQ(uart.read(kData), 'a' + i);
  EXPECT_FALSE(uart.interrupt());
  EXPECT_EQ(uart.read(kIir), 0xc1);
}

TEST(Uart16550, TransmitterInterrupt) {
  Uart16550 uart;
  out(uart, kIer, 0x02);
  EXPECT_TRUE(uart.interrupt());  // raised by being enabled
  EXPECT_EQ(uart.read(kIir), 0x02);
  EXPECT_FALSE(uart.interrupt());
  EXPECT_EQ(uart.read(kIir), 0x01);
  out(uart, kIer, 0x02);  // it was enabled already
  EXPECT_FALSE(uart.interrupt());
  EXPECT_TRUE(uart.write(kData, 'x'));
  EXPECT_TRUE(uart.interrupt());
  out(uart, kIer, 0x00);
  EXPECT_FALSE(uart.interrupt());
}

TEST(Uart16550, LoopbackCarriesDataAndModemLines) {
  Uart16550 uart;
  out(uart, kFcr, 0x01);
  out(uart, kMcr, 0x1f);
  EXPECT_EQ(uart.room(), 0U) << "the input pin is cut off";
  EXPECT_EQ(receive(uart, "x"), 0U);
  out(uart, kData, 'l');  // nothing leaves
  EXPECT_EQ(uart.read(kData), 'l');
  EXPECT_EQ(uart.read(kMsr) & 0xf0, 0xf0);
  EXPECT_EQ(uart.read(kMsr), 0xf0);  // the changes were reported
  out(uart, kMcr, 0x10);
  EXPECT_EQ(uart.read(kMsr), 0x0f);  // all four fell
  for (int i = 0; i < 20; ++i) out(uart, kData, i);
  EXPECT_EQ(uart.read(kLsr), 0x63) << "an overrun";
  EXPECT_EQ(uart.read(kLsr), 0x61) << "reported once";
  for (int i = 0; i < 16; ++i) EXPECT_EQ(uart.read(kData), i);
}

TEST(Uart16550, CausesHaveAnOrder) {
  Uart16550 uart;
  out(uart, kMcr, 0x10);
  out(uart, kData, 1);
  out(uart, kData, 2);  // overrun: one byte is all it holds
  out(uart, kIer, 0x0f);
  EXPECT_EQ(uart.read(kIir), 0x06);
  EXPECT_EQ(uart.read(kLsr) & 0x02, 0x02);
  EXPECT_EQ(uart.read(kIir), 0x04);
  EXPECT_EQ(uart.read(kData), 1);
  EXPECT_EQ(uart.read(kIir), 0x02);
  EXPECT_EQ(uart.read(kIir), 0x00);  // modem lines changed on entering loopback
  EXPECT_NE(uart.read(kMsr), 0);
  EXPECT_EQ(uart.read(kIir), 0x01);
}

// The steps by which Linux 6.1 tells a 16550A from its relatives (drivers/tty/serial/8250).
TEST(Uart16550, PassesTheProbeOfLinux) {
  Uart16550 uart;
  // Is there a chip? Four enable bits stick, no more.
  out(uart, kIer, 0);
  EXPECT_EQ(uart.read(kIer) & 0x0f, 0);
  out(uart, kIer, 0x0f);
  EXPECT_EQ(uart.read(kIer), 0x0f);
  out(uart, kIer, 0);
  // Loopback with OUT2 and RTS reads back as carrier and clear-to-send.
  out(uart, kMcr, 0x10 | 0x08 | 0x02);
  EXPECT_EQ(uart.read(kMsr) & 0xf0, 0x80 | 0x10);
  out(uart, kMcr, 0);
  // Offset 2 under LCR 0xbf would be the enhanced feature register of a 16650; here it is the FIFO control.
  out(uart, kLcr, 0xbf);
  out(uart, kFcr, 0);
  out(uart, kLcr, 0);
  out(uart, kFcr, 0x01);
  EXPECT_EQ(uart.read(kIir) >> 6, 3) << "16550A";
  out(uart, kLcr, 0x80);
  EXPECT_NE(uart.read(kIir), 0) << "would be a 16650";
  out(uart, kLcr, 0xbf);
  EXPECT_NE(uart.read(kIir), 0) << "would be a 16850";
  // A National SuperIO shows MCR's loopback bit at offset 2 under LCR 0xe0.
  out(uart, kLcr, 0);
  const int mcr = uart.read(kMcr);
  out(uart, kMcr, mcr ^ 0x10);
  out(uart, kLcr, 0xe0);
  EXPECT_EQ(uart.read(kIir) & 0x10, 0) << "would be a SuperIO";
  out(uart, kLcr, 0);
  out(uart, kMcr, mcr);
  // A 16750 keeps FCR bit 5 where the divisor latch is open.
  out(uart, kFcr, 0x21);
  EXPECT_EQ(uart.read(kIir) >> 5, 6);
  out(uart, kLcr, 0x80);
  out(uart, kFcr, 0x21);
  EXPECT_EQ(uart.read(kIir) >> 5, 6) << "would be a 16750";
  out(uart, kLcr, 0);
  // An XScale keeps bit 6 of the interrupt enable.
  out(uart, kIer, 0x40);
  EXPECT_EQ(uart.read(kIer), 0);
  // The size of the FIFO, measured in loopback.
  out(uart, kFcr, 0x07);
  out(uart, kMcr, 0x10);
  for (int i = 0; i < 256; ++i) out(uart, kData, i);
  int size = 0;
  while ((uart.read(kLsr) & 1) != 0) {
    (void)uart.read(kData);
    ++size;
  }
  EXPECT_EQ(size, 16);
  out(uart, kMcr, 0);
  // At open: the transmitter interrupt must come back each time it is enabled...
  for (int i = 0; i < 2; ++i) {
    out(uart, kIer, 0x02);
    EXPECT_EQ(uart.read(kIir) & 0x01, 0) << "would be run by a timer";
    out(uart, kIer, 0);
  }
  // ...and be there while the line status says empty.
  out(uart, kIer, 0x02);
  EXPECT_EQ(uart.read(kLsr) & 0x40, 0x40);
  EXPECT_EQ(uart.read(kIir) & 0x01, 0);
  out(uart, kIer, 0);
  out(uart, kScratch, 0x5a);
  EXPECT_EQ(uart.read(kScratch), 0x5a);
}

TEST(Uart16550, AnyAccessKeepsTheFifoInBounds) {
  Uart16550 uart;
  std::mt19937 random(57);
  for (int i = 0; i < 1'000'000; ++i) {
    const uint64_t offset = random() % 8;
    const auto value = static_cast<uint8_t>(random());
    switch (random() % 3) {
      case 0:
        (void)uart.read(offset);
        break;
      case 1:
        (void)uart.write(offset, value);
        break;
      default:
        EXPECT_LE(receive(uart, std::string(value % 40, 'z')), 16U);
    }
    ASSERT_LE(uart.room(), Uart16550::kFifoSize);
  }
  uart.reset();
  EXPECT_EQ(uart.read(kLsr), 0x60);
}

}  // namespace
}  // namespace vmm::legacy
