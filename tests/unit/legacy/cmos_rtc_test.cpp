// SPDX-License-Identifier: Apache-2.0
#include "devices/legacy/cmos_rtc.h"

#include <gtest/gtest.h>

#include "tests/unit/legacy/fakes.h"

namespace vmm::legacy {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;

constexpr uint64_t kMiB = 1 << 20;

class CmosRtcTest : public ::testing::Test {
 protected:
  int get(int index) {
    port_out<uint8_t>(rtc_, 0, static_cast<uint8_t>(index));
    return port_in<uint8_t>(rtc_, 1);
  }
  void set(int index, int value) {
    port_out<uint8_t>(rtc_, 0, static_cast<uint8_t>(index));
    port_out<uint8_t>(rtc_, 1, static_cast<uint8_t>(value));
  }
  int get16(int index) { return get(index) | get(index + 1) << 8; }

  // Tuesday, 29 February 2028, 23:58:07.25 UTC
  system_clock::time_point now_ = system_clock::from_time_t(1835481487) + 250ms;
  CmosRtc rtc_{3072 * kMiB, 2048 * kMiB, [this] { return now_; }};
};

TEST_F(CmosRtcTest, TimeInBcd) {
  EXPECT_EQ(get(0x00), 0x07);
  EXPECT_EQ(get(0x02), 0x58);
  EXPECT_EQ(get(0x04), 0x23);
  EXPECT_EQ(get(0x06), 3);
  EXPECT_EQ(get(0x07), 0x29);
  EXPECT_EQ(get(0x08), 0x02);
  EXPECT_EQ(get(0x09), 0x28);
  EXPECT_EQ(get(0x32), 0x20);
}

TEST_F(CmosRtcTest, TimeInBinaryAndTwelveHours) {
  set(0x0b, 0x04);
  EXPECT_EQ(get(0x02), 58);
  EXPECT_EQ(get(0x04), 11 | 0x80);
  EXPECT_EQ(get(0x32), 20);
  set(0x0b, 0x00);
  EXPECT_EQ(get(0x04), 0x91);
  now_ += 1h;  // midnight
  EXPECT_EQ(get(0x04), 0x12);
  now_ += 12h;
  EXPECT_EQ(get(0x04), 0x92);
}

TEST_F(CmosRtcTest, TheHostKeepsTheTime) {
  set(0x0b, 0x82);
  set(0x04, 0x11);
  set(0x0b, 0x02);
  EXPECT_EQ(get(0x04), 0x23);
}

TEST_F(CmosRtcTest, UpdateInProgressBeforeEachSecond) {
  EXPECT_EQ(get(0x0a), 0x26);
  now_ += 750ms - 2229us;
  EXPECT_EQ(get(0x0a), 0x26);
  now_ += 1us;
  EXPECT_EQ(get(0x0a), 0xa6);
  set(0x0b, 0x82);  // held
  EXPECT_EQ(get(0x0a), 0x26);
  set(0x0b, 0x02);
  now_ += 2228us;
  EXPECT_EQ(get(0x0a), 0x26);
  EXPECT_EQ(get(0x00), 0x08);
}

TEST_F(CmosRtcTest, InterruptsCannotBeEnabled) {
  set(0x0b, 0x72);
  EXPECT_EQ(get(0x0b), 0x02);
  EXPECT_EQ(get(0x0c), 0);
  set(0x0d, 0);
  EXPECT_EQ(get(0x0d), 0x80);
}

TEST_F(CmosRtcTest, TellsTheSizeOfMemory) {
  EXPECT_EQ(get16(0x15), 640);
  EXPECT_EQ(get16(0x17), 63 * 1024);
  EXPECT_EQ(get16(0x34), (3072 - 16) * 16);
  EXPECT_EQ(get16(0x5b) | get(0x5d) << 16, 2048 * 16);
  CmosRtc small(8 * kMiB, 0);
  port_out<uint8_t>(small, 0, 0x17);
  EXPECT_EQ(port_in<uint8_t>(small, 1), 7 * 1024 & 0xff);
  port_out<uint16_t>(small, 0, 0x0035);  // index and data in one write
  EXPECT_EQ(port_in<uint8_t>(small, 1), 0);
}

TEST_F(CmosRtcTest, MemoryRemembersUntilReset) {
  set(0x0f, 0x0a);
  EXPECT_EQ(get(0x0f), 0x0a);
  EXPECT_EQ(get(0x8f), 0x0a) << "bit 7 of the index is the NMI mask";
  EXPECT_EQ(port_in<uint8_t>(rtc_, 0), 0xff) << "the index port is write-only";
  rtc_.reset();
  EXPECT_EQ(get(0x0f), 0);
}

TEST_F(CmosRtcTest, Hammered) {
  hammer(rtc_, CmosRtc::kPorts, 100'000);
}

}  // namespace
}  // namespace vmm::legacy
