// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/msix.h"

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/pci/fakes.h"

namespace vmm::pci {
namespace {

constexpr uint32_t kApic = 0xfee00000;

struct MsixTest : testing::Test {
  void program(uint16_t vector, uint32_t data, uint32_t address = kApic) {
    const uint64_t entry = vector * Msix::kEntrySize;
    write_as<uint32_t>(msix.table(), entry, address);
    write_as<uint32_t>(msix.table(), entry + 4, 0);
    write_as<uint32_t>(msix.table(), entry + 8, data);
  }
  void mask(uint16_t vector, bool masked) {
    write_as<uint32_t>(msix.table(), vector * Msix::kEntrySize + 12, masked ? 1 : 0);
  }
  uint64_t pending() { return read_as<uint64_t>(msix.pending_bits(), 0); }

  FakeMsiSink sink;
  Msix msix{sink, 4, "test0"};
};

TEST_F(MsixTest, PowerOnIsMaskedAndSilent) {
  for (uint16_t v = 0; v < 4; ++v) EXPECT_EQ(read_as<uint32_t>(msix.table(), v * 16U + 12), 1U);
  EXPECT_FALSE(msix.enabled());
  msix.signal(0);
  EXPECT_EQ(pending(), 0U);
  EXPECT_EQ(sink.vectors, 0);
}

TEST_F(MsixTest, DeliversTheProgrammedMessage) {
  msix.set_control(true, false);
  program(2, 0x4031);
  EXPECT_TRUE(sink.routes.empty()) << "no route while masked";
  mask(2, false);
  EXPECT_EQ(sink.routes.size(), 1U);
  msix.signal(2);
  ASSERT_EQ(sink.delivered.size(), 1U);
  EXPECT_EQ(sink.delivered[0], (MsiMessage{.address = kApic, .data = 0x4031}));
  EXPECT_EQ(sink.vectors, 1) << "only what is used takes a descriptor";
}

TEST_F(MsixTest, MaskedVectorPendsAndIsDeliveredOnce) {
  msix.set_control(true, false);
  program(1, 0x31);
  msix.signal(1);
  msix.signal(1);
  EXPECT_EQ(pending(), 2U);
  EXPECT_TRUE(sink.delivered.empty());
  mask(1, false);
  EXPECT_EQ(sink.delivered.size(), 1U);
  EXPECT_EQ(pending(), 0U);
}

TEST_F(MsixTest, FunctionMaskHoldsAllBack) {
  msix.set_control(true, true);
  program(0, 0x30);
  program(3, 0x33);
  mask(0, false);
  mask(3, false);
  EXPECT_TRUE(sink.routes.empty());
  msix.signal(0);
  msix.signal(3);
  EXPECT_EQ(pending(), 0b1001U);
  msix.set_control(true, false);
  EXPECT_EQ(sink.delivered.size(), 2U);
  EXPECT_EQ(pending(), 0U);
}

// HG32: a guest that masks and unmasks in a loop must not cost routing calls.
TEST_F(MsixTest, MaskStormMakesNoRoutes) {
  msix.set_control(true, false);
  program(0, 0x30);
  for (int i = 0; i < 10000; ++i) {
    mask(0, false);
    mask(0, true);
    msix.set_control(true, i % 2 == 0);
  }
  EXPECT_EQ(sink.routes.size(), 1U);
}

TEST_F(MsixTest, ChangedMessageIsRoutedAtUnmask) {
  msix.set_control(true, false);
  program(0, 0x30);
  mask(0, false);
  mask(0, true);
  program(0, 0x55, kApic | 0x1000);
  EXPECT_EQ(sink.routes.size(), 1U);
  mask(0, false);
  msix.signal(0);
  ASSERT_EQ(sink.delivered.size(), 1U);
  EXPECT_EQ(sink.delivered[0], (MsiMessage{.address = kApic | 0x1000, .data = 0x55}));
  write_as<uint32_t>(msix.table(), 8, 0x56);  // in flight, unmasked
  msix.signal(0);
  EXPECT_EQ(sink.delivered.back().data, 0x56U);
}

TEST_F(MsixTest, DisablingForgetsWhatIsPending) {
  msix.set_control(true, false);
  msix.signal(0);
  EXPECT_EQ(pending(), 1U);
  msix.set_control(false, false);
  EXPECT_EQ(pending(), 0U);
  mask(0, false);
  EXPECT_TRUE(sink.routes.empty());
}

// HG32: behind the end of the table, and a vector number that does not exist.
TEST_F(MsixTest, NothingBehindTheLastEntry) {
  msix.set_control(true, false);
  write_as<uint32_t>(msix.table(), 4 * 16, 0xffffffff);
  write_as<uint64_t>(msix.table(), 4 * 16 + 8, 0);
  EXPECT_EQ(read_as<uint32_t>(msix.table(), 4 * 16), 0U);
  EXPECT_EQ(read_as<uint64_t>(msix.table(), 4088), 0U);
  msix.signal(4);
  msix.signal(0xffff);
  EXPECT_EQ(pending(), 0U);
  EXPECT_EQ(read_as<uint64_t>(msix.pending_bits(), 4088), 0U);
}

TEST_F(MsixTest, PendingBitsAreReadOnly) {
  msix.set_control(true, false);
  msix.signal(0);
  write_as<uint64_t>(msix.pending_bits(), 0, 0xfe);
  EXPECT_EQ(pending(), 1U);
}

TEST_F(MsixTest, TableTakesAlignedDwordsAndQwords) {
  write_as<uint64_t>(msix.table(), 16, 0x11223344fee01003);
  EXPECT_EQ(read_as<uint64_t>(msix.table(), 16), 0x11223344fee01000U) << "the lowest two bits are zero";
  write_as<uint64_t>(msix.table(), 24, 0xfffffffe00004020);
  EXPECT_EQ(read_as<uint64_t>(msix.table(), 24), 0x4020U) << "one control bit exists";
  EXPECT_EQ(read_as<uint16_t>(msix.table(), 22), 0x1122);
  write_as<uint8_t>(msix.table(), 16, 0xff);
  write_as<uint16_t>(msix.table(), 16, 0xffff);
  write_as<uint32_t>(msix.table(), 18, 0xffffffff);
  write_as<uint64_t>(msix.table(), 20, 0xffffffff);
  EXPECT_EQ(read_as<uint64_t>(msix.table(), 16), 0x11223344fee01000U);
}

// HG33: the host refuses; the vector is silent, the others work, and so does this one with another message.
TEST_F(MsixTest, RefusedRouteSilencesOneVector) {
  msix.set_control(true, false);
  program(0, 0x30);
  mask(0, false);
  sink.refuse = true;
  program(1, 0xdeadbeef, 0x1000);
  mask(1, false);
  const auto calls = sink.routes.size();
  msix.signal(1);
  mask(1, true);
  mask(1, false);
  EXPECT_EQ(sink.routes.size(), calls) << "a refused message is not tried again";
  EXPECT_TRUE(sink.delivered.empty());
  EXPECT_EQ(msix.refused(), 1U);
  msix.signal(0);
  EXPECT_EQ(sink.delivered.size(), 1U);
  sink.refuse = false;
  program(1, 0x31);
  msix.signal(1);
  EXPECT_EQ(sink.delivered.back().data, 0x31U);
}

TEST_F(MsixTest, RefusedVectorIsTriedAgainWithANewMessage) {
  msix.set_control(true, false);
  sink.refuse_vectors = true;
  program(0, 0x30);
  mask(0, false);
  msix.signal(0);
  EXPECT_TRUE(sink.delivered.empty());
  sink.refuse_vectors = false;
  program(0, 0x31);
  msix.signal(0);
  EXPECT_EQ(sink.delivered.size(), 1U);
}

TEST_F(MsixTest, ResetIsPowerOn) {
  msix.set_control(true, false);
  program(0, 0x30);
  mask(0, false);
  msix.signal(1);
  msix.reset();
  EXPECT_FALSE(msix.enabled());
  EXPECT_EQ(pending(), 0U);
  EXPECT_EQ(read_as<uint64_t>(msix.table(), 0), 0U);
  EXPECT_EQ(read_as<uint64_t>(msix.table(), 8), 1ULL << 32);
  msix.signal(0);
  EXPECT_TRUE(sink.delivered.empty());
}

TEST_F(MsixTest, BellsRingAsLongAsTheVectorIsOpen) {
  const auto bell = EventFd::create().value();
  const auto other = EventFd::create().value();
  program(1, 0x31);
  mask(1, false);
  msix.connect(1, bell);
  EXPECT_FALSE(sink.has(bell)) << "MSI-X is off";
  msix.set_control(true, false);
  EXPECT_TRUE(sink.has(bell));
  EXPECT_EQ(sink.connected.at(&bell).data, 0x31U) << "not before it leads anywhere";
  msix.connect(1, other);
  EXPECT_TRUE(sink.has(other)) << "two queues may share a vector";
  mask(1, true);
  EXPECT_FALSE(sink.has(bell) || sink.has(other));
  mask(1, false);
  EXPECT_TRUE(sink.has(bell) && sink.has(other));
  msix.set_control(true, true);
  EXPECT_FALSE(sink.has(bell));
  msix.set_control(true, false);
  EXPECT_TRUE(sink.has(bell));
  msix.set_control(false, false);
  EXPECT_FALSE(sink.has(bell));
  msix.set_control(true, false);
  msix.disconnect(1, other);
  EXPECT_TRUE(sink.has(bell));
  EXPECT_FALSE(sink.has(other));
  sink.refuse = true;
  program(1, 0xdead);
  EXPECT_FALSE(sink.has(bell)) << "a silent vector";
  sink.refuse = false;
  program(1, 0x32);
  EXPECT_TRUE(sink.has(bell));
  msix.reset();
  EXPECT_FALSE(sink.has(bell));
  msix.disconnect(1, bell);
  msix.connect(4, bell);  // no such vector
  msix.disconnect(4, bell);
  EXPECT_TRUE(sink.connected.empty());
}

TEST_F(MsixTest, ARefusedBellIsLeftToItsWatcher) {
  const auto bell = EventFd::create().value();
  msix.set_control(true, false);
  program(0, 0x30);
  mask(0, false);
  sink.refuse_bells = true;
  msix.connect(0, bell);
  for (int i = 0; i < 3; ++i) msix.signal(0);
  EXPECT_EQ(sink.connects, 1) << "asked for again without a change";
  EXPECT_EQ(sink.delivered.size(), 3U);
  mask(0, true);
  sink.refuse_bells = false;
  mask(0, false);
  EXPECT_TRUE(sink.has(bell));
  msix.disconnect(0, bell);
}

// HG32: the device signals while two vCPUs change masks and messages.
TEST_F(MsixTest, ChangesInFlight) {
  msix.set_control(true, false);
  std::vector<std::jthread> threads;
  for (uint32_t seed = 0; seed < 2; ++seed) {
    threads.emplace_back([this, seed] {
      std::minstd_rand random{seed};
      for (int i = 0; i < 5000; ++i) {
        const auto vector = static_cast<uint16_t>(random() % 5);
        program(vector, static_cast<uint32_t>(random()), static_cast<uint32_t>(random()));
        mask(vector, random() % 2 == 0);
        msix.set_control(random() % 4 != 0, random() % 4 == 0);
      }
    });
  }
  threads.emplace_back([this] {
    for (int i = 0; i < 5000; ++i) msix.signal(static_cast<uint16_t>(i % 5));
  });
  threads.emplace_back([this] {
    const auto bell = EventFd::create().value();
    for (int i = 0; i < 5000; ++i) {
      msix.connect(static_cast<uint16_t>(i % 5), bell);
      msix.disconnect(static_cast<uint16_t>(i % 5), bell);
    }
  });
  threads.clear();
  msix.set_control(true, false);
  for (uint16_t v = 0; v < 4; ++v) {
    program(v, v);
    mask(v, false);
    msix.signal(v);
    EXPECT_EQ(sink.delivered.back().data, v);
  }
}

}  // namespace
}  // namespace vmm::pci
