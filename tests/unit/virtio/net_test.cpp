// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net.h"

#include <array>

#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"
#include "tests/unit/virtio/fake_net.h"

namespace vmm::virtio {
namespace {

using backend::VnetHeader;

constexpr uint64_t kVersion1 = 1ULL << 32;
constexpr uint64_t kBasic = kVersion1 | net_feature::kMac | net_feature::kStatus;
constexpr size_t kHeader = sizeof(VnetHeader);

std::string bytes_of(const VnetHeader& header) {
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

// Text in which a lost or displaced byte shows.
std::string frame_of(size_t length) {
  std::string frame;
  for (int i = 0; frame.size() < length; ++i) frame += std::to_string(i) + ' ';
  frame.resize(length);
  return frame;
}

class NetTest : public testing::Test {
 protected:
  // What the driver reads back of a received frame.
  struct Received {
    VnetHeader header;
    std::string frame;
    uint32_t buffers = 0;
  };

  void on_loop(const std::function<void()>& work) { loop_->call(work); }
  FakeRing& rx() { return driver_->ring(Net::kReceive); }
  FakeRing& tx() { return driver_->ring(Net::kTransmit); }

  void add_receive(uint32_t length) {
    const auto buffer = rx().writable(length);
    const auto head = rx().add({buffer});
    if (addresses_.size() <= head) addresses_.resize(head + 1U);
    addresses_[head] = buffer.address;
  }
  void add_receive(uint32_t length, int count) {
    for (int i = 0; i < count; ++i) add_receive(length);
    driver_->notify(Net::kReceive);
  }
  Received receive() {
    Received received;
    std::string all;
    uint16_t left = 1;
    for (bool first = true; left > 0; --left, first = false) {
      const auto used = driver_->wait_used(Net::kReceive);
      if (testing::Test::HasFailure()) return received;
      all += rx().bytes_at(addresses_[used.id], used.length);
      ++received.buffers;
      if (!first) continue;
      std::memcpy(&received.header, all.data(), sizeof received.header);
      left = received.header.buffers;
    }
    received.frame = all.substr(kHeader);
    return received;
  }
  void arrive(std::string frame, VnetHeader header = {}) {
    on_loop([&] { fake_.arrive(std::move(frame), header); });
  }
  // Sends, waits until it is given back, and returns what the backend got, if anything.
  std::optional<FakeNet::Frame> send(const VnetHeader& header, const std::string& frame) {
    const auto head = tx().readable(bytes_of(header));
    const auto body = tx().readable(frame);
    driver_->request(Net::kTransmit, {head, body});
    return last_sent();
  }
  std::optional<FakeNet::Frame> last_sent() {
    std::optional<FakeNet::Frame> last;
    on_loop([&] {
      if (!fake_.sent.empty()) last = fake_.sent.back();
      fake_.sent.clear();
    });
    return last;
  }
  uint16_t status() {
    uint16_t value = 0;
    driver_->core->read_config(offsetof(NetConfig, status), std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }

  LoopThread loop_;
  GuestMemory memory_ = make_test_memory(8 << 20);
  FakeNet fake_;
  Net net_{std::array{&*loop_}, fake_, *backend::MacAddress::parse("52:54:00:12:34:56"), "net0"};
  std::optional<FakeDriver> driver_{std::in_place, net_, memory_};
  std::vector<Gpa> addresses_;  // of receive buffers, by head
};

TEST_F(NetTest, Configuration) {
  NetConfig config;
  driver_->core->read_config(0, std::as_writable_bytes(std::span{&config, 1}));
  EXPECT_EQ(config.mac[0], 0x52);
  EXPECT_EQ(config.mac[5], 0x56);
  EXPECT_EQ(config.status, NetConfig::kLinkUp);
  EXPECT_EQ(config.mtu, 1500);
  config.mac[0] = 0;
  driver_->core->write_config(0, std::as_bytes(std::span{&config, 1}));
  driver_->core->read_config(0, std::as_writable_bytes(std::span{&config, 1}));
  EXPECT_EQ(config.mac[0], 0x52);
}

TEST_F(NetTest, OffersWhatTheBackendCan) {
  EXPECT_NE(driver_->offered() & net_feature::kHostTso4, 0U);
  FakeNet plain;
  plain.can = 0;
  const Net net{std::array{&*loop_}, plain, {}, "net1"};
  constexpr uint64_t kOffloads = net_feature::kChecksum | net_feature::kGuestChecksum |
                                 net_feature::kHostTso4 | net_feature::kGuestTso4 | net_feature::kHostTso6 |
                                 net_feature::kGuestTso6 | net_feature::kHostEcn | net_feature::kGuestEcn;
  EXPECT_EQ(net.features() & kOffloads, 0U);
  EXPECT_NE(net.features() & net_feature::kMergeable, 0U);
  FakeNet sender;
  sender.gives = TUN_F_CSUM;
  EXPECT_EQ(Net(std::array{&*loop_}, sender, {}, "net2").features() & kOffloads,
            kOffloads & ~(net_feature::kGuestTso4 | net_feature::kGuestTso6 | net_feature::kGuestEcn));
}

TEST_F(NetTest, BackendHearsWhatTheDriverAccepts) {
  driver_->start(kBasic | net_feature::kGuestChecksum | net_feature::kGuestTso4, 64);
  on_loop([&] { EXPECT_EQ(fake_.accepts, static_cast<uint32_t>(TUN_F_CSUM | TUN_F_TSO4)); });
  driver_->core->reset();
  driver_->start(kBasic | net_feature::kGuestTso4, 64);  // segments without checksums: impossible
  on_loop([&] { EXPECT_EQ(fake_.accepts, 0U); });
}

TEST_F(NetTest, Sends) {
  driver_->start();
  const auto frame = frame_of(1514);
  const VnetHeader header{.flags = VnetHeader::kNeedsChecksum, .checksum_start = 34, .checksum_offset = 16};
  const auto sent = send(header, frame);
  ASSERT_TRUE(sent);
  EXPECT_TRUE(sent->bytes == frame);
  EXPECT_EQ(sent->header.checksum_start, 34);
  EXPECT_EQ(net_.sent().frames, 1U);
  EXPECT_EQ(net_.sent().bytes, 1514U);
}

TEST_F(NetTest, SendsHeaderAndFrameInOneBuffer) {
  driver_->start();
  const auto frame = frame_of(60);
  driver_->request(Net::kTransmit, {tx().readable(bytes_of({}) + frame)});
  const auto sent = last_sent();
  ASSERT_TRUE(sent);
  EXPECT_TRUE(sent->bytes == frame);
}

// HG43
TEST_F(NetTest, FramesOfImpossibleLengthAreDropped) {
  driver_->start();
  for (const size_t length : {0UL, 1UL, kShortestFrame - 1, kLongestFrame + 1, 70UL << 10}) {
    EXPECT_FALSE(send({}, frame_of(length))) << length;
  }
  EXPECT_EQ(net_.sent().dropped, 5U);
  EXPECT_TRUE(send({}, frame_of(kShortestFrame)));
  EXPECT_TRUE(send({}, frame_of(kLongestFrame)));
  EXPECT_FALSE(driver_->needs_reset());
}

// HG43
TEST_F(NetTest, FrameOfManySmallBuffers) {
  driver_->start(256);
  const auto all = bytes_of({}) + frame_of(256 - kHeader);
  std::vector<FakeRing::Buffer> buffers;
  for (const char byte : all) buffers.push_back(tx().readable({&byte, 1}));
  driver_->request(Net::kTransmit, buffers);
  const auto sent = last_sent();
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->bytes, frame_of(256 - kHeader));
}

// HG43
TEST_F(NetTest, AFrameWithoutAHeaderBreaksTheDriver) {
  driver_->start();
  tx().add({tx().readable(std::string(kHeader - 1, 'x'))});
  driver_->notify(Net::kTransmit);
  EXPECT_TRUE(driver_->wait_needs_reset());
  on_loop([&] { EXPECT_FALSE(fake_.running()); });
  driver_->core->reset();
  driver_->start();
  EXPECT_TRUE(send({}, frame_of(60)));
}

// HG44
TEST_F(NetTest, FramesWithImpossibleHeadersAreDropped) {
  driver_->start(kBasic | net_feature::kChecksum, 64);
  const auto frame = frame_of(60);
  EXPECT_FALSE(send({.flags = 1, .checksum_start = 60, .checksum_offset = 0}, frame));
  EXPECT_FALSE(
      send({.flags = 1, .gso_type = 1, .gso_size = 100, .checksum_start = 34, .checksum_offset = 16}, frame));
  EXPECT_FALSE(send({.gso_type = 0x7f}, frame));
  EXPECT_EQ(net_.sent().dropped, 3U);
  EXPECT_TRUE(send({}, frame));
  EXPECT_FALSE(driver_->needs_reset());
}

TEST_F(NetTest, WhatTheBackendRefusesIsDroppedAndGivenBack) {
  driver_->start();
  on_loop([&] { fake_.refuse = true; });
  send({}, frame_of(60));
  EXPECT_EQ(net_.sent().dropped, 1U);
}

TEST_F(NetTest, SendsMoreThanATurnsShare) {
  driver_->start(256);
  const auto header = tx().readable(bytes_of({}));
  const auto body = tx().readable(frame_of(60));
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 128; ++i) tx().add({header, body});
    driver_->notify(Net::kTransmit);
    for (int i = 0; i < 128; ++i) driver_->wait_used(Net::kTransmit);
  }
  EXPECT_EQ(net_.sent().frames, 1280U);
}

// The doorbell is off until the loop rests, and what is sent until then is given back together.
TEST_F(NetTest, WhatFollowsAtOnceNeedsNoDoorbell) {
  driver_->start();
  const std::vector frame{tx().readable(bytes_of({})), tx().readable(frame_of(60))};
  on_loop([&] {
    tx().add(frame);
    net_.handle_queue(Net::kTransmit);
    EXPECT_EQ(fake_.sent.size(), 1U);
    EXPECT_EQ(tx().used_index(), 0);
    tx().add(frame);
  });
  driver_->wait_used(Net::kTransmit);
  driver_->wait_used(Net::kTransmit);
  EXPECT_EQ(net_.sent().frames, 2U);
}

TEST_F(NetTest, ReceivesIntoOneBuffer) {
  driver_->start(kBasic, 64);
  add_receive(1600, 4);
  const auto frame = frame_of(1514);
  arrive(frame, {.flags = VnetHeader::kDataValid, .buffers = 77});
  const auto received = receive();
  EXPECT_TRUE(received.frame == frame);  // too long to print
  EXPECT_EQ(received.header.buffers, 1);
  EXPECT_EQ(received.header.flags, 0);  // the driver did not ask for such things
  EXPECT_EQ(net_.received().frames, 1U);
  EXPECT_EQ(net_.received().bytes, 1514U);
}

TEST_F(NetTest, ReceivedHeadersReachADriverThatAccepts) {
  driver_->start(kBasic | net_feature::kGuestChecksum, 64);
  add_receive(1600, 1);
  arrive(frame_of(100), {.flags = VnetHeader::kNeedsChecksum, .checksum_start = 34, .checksum_offset = 16});
  const auto received = receive();
  EXPECT_EQ(received.header.flags, VnetHeader::kNeedsChecksum);
  EXPECT_EQ(received.header.checksum_start, 34);
}

TEST_F(NetTest, MergesBuffers) {
  driver_->start(128);
  add_receive(1000, 70);
  const auto frame = frame_of(65'000);
  arrive(frame);
  auto received = receive();
  EXPECT_EQ(received.buffers, 66U);
  EXPECT_TRUE(received.frame == frame);  // too long to print
  arrive(frame_of(60));                  // what was taken for the one and not needed is used for the next
  received = receive();
  EXPECT_EQ(received.buffers, 1U);
  EXPECT_EQ(received.frame, frame_of(60));
}

TEST_F(NetTest, AFrameWaitsForTheBuffersItNeeds) {
  driver_->start();
  add_receive(1000, 5);
  const auto frame = frame_of(30'000);
  arrive(frame);
  driver_->settle();
  EXPECT_EQ(rx().used_index(), 0);
  on_loop([&] { EXPECT_FALSE(fake_.wants); });
  add_receive(1000, 5);
  driver_->settle();
  EXPECT_EQ(rx().used_index(), 0);
  add_receive(1000, 25);
  const auto received = receive();
  EXPECT_EQ(received.buffers, 31U);
  EXPECT_TRUE(received.frame == frame);  // too long to print
}

// HG45
TEST_F(NetTest, AFrameThatNeverFitsIsDropped) {
  driver_->start(64);
  add_receive(20, 64);
  arrive(frame_of(1500));
  driver_->settle();
  EXPECT_EQ(net_.received().dropped, 1U);
  arrive(frame_of(100));
  EXPECT_EQ(receive().frame, frame_of(100));
  EXPECT_FALSE(driver_->needs_reset());
}

// HG45
TEST_F(NetTest, WithoutMergingABufferTooShortDropsTheFrame) {
  driver_->start(kBasic, 64);
  add_receive(100, 1);
  arrive(frame_of(1500));
  arrive(frame_of(60));
  EXPECT_EQ(receive().frame, frame_of(60));
  EXPECT_EQ(net_.received().dropped, 1U);
}

// HG45
TEST_F(NetTest, BuffersThatHoldNoHeaderBreakTheDriver) {
  struct Case {
    const char* name;
    FakeRing::Buffer buffer;
  };
  for (const auto& [name, buffer] :
       {Case{"one byte", {Gpa{0x8000}, 1, true}}, Case{"empty", {Gpa{0x8000}, 0, true}},
        Case{"read-only", {Gpa{0x8000}, 2000, false}}}) {
    driver_->start();
    rx().add({buffer});
    driver_->notify(Net::kReceive);
    EXPECT_TRUE(driver_->wait_needs_reset()) << name;
    driver_->core->reset();
  }
}

// HG45
TEST_F(NetTest, AFloodWithoutBuffersIsLeftAloneAndRecovers) {
  driver_->start();
  add_receive(1600, 2);
  on_loop([&] {
    for (int i = 0; i < 1000; ++i) fake_.arrive(frame_of(1514));
  });
  receive();
  receive();
  driver_->settle();
  int receives = 0;
  on_loop([&] {
    EXPECT_FALSE(fake_.wants);
    receives = fake_.receives;
    fake_.arrive(frame_of(60));
  });
  driver_->settle();
  on_loop([&] { EXPECT_LE(fake_.receives, receives + 1); });
  for (int i = 0; i < 999; ++i) {
    if (i % 32 == 0) add_receive(1600, 32);
    const auto received = receive();
    ASSERT_FALSE(testing::Test::HasFailure()) << i;
  }
  EXPECT_EQ(net_.received().frames, 1001U);
}

TEST_F(NetTest, ShortFramesThatComeAloneCostACallEach) {
  driver_->start(128);
  add_receive(2048, 100);
  const auto calls_for = [this](int frames) {
    const auto calls = [this] {
      int count = 0;
      on_loop([&] { count = fake_.receives; });
      return count;
    };
    const int before = calls();
    for (int i = 0; i < frames; ++i) {
      arrive(frame_of(60));
      EXPECT_EQ(receive().frame, frame_of(60));
    }
    return calls() - before;
  };
  EXPECT_GE(calls_for(8), 16) << "each time it looks for another";
  EXPECT_EQ(calls_for(8), 8);
  EXPECT_EQ(calls_for(9), 10) << "once it was tried";
}

TEST_F(NetTest, WhatFollowsShortFramesIsWhole) {
  driver_->start(128);
  add_receive(2048, 100);
  for (size_t alone = 0; alone < 20; ++alone) {
    for (size_t i = 0; i < alone; ++i) {
      arrive(frame_of(60 + i));
      EXPECT_EQ(receive().frame, frame_of(60 + i));
    }
    arrive(frame_of(9000));
    EXPECT_TRUE(receive().frame == frame_of(9000)) << alone;
    on_loop([&] {
      for (size_t length = 60; length < 72; ++length) fake_.arrive(frame_of(length));
    });
    for (size_t length = 60; length < 72; ++length) EXPECT_EQ(receive().frame, frame_of(length));
    add_receive(2048, static_cast<int>(alone) + 17);
  }
}

// HG47
TEST_F(NetTest, LinkChangesReachTheDriver) {
  driver_->start();
  const auto before = driver_->interrupts.config_count();
  on_loop([&] { fake_.link_changed(false); });
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(driver_->interrupts.config_count(), before + 1);
  on_loop([&] { fake_.link_changed(true); });
  EXPECT_EQ(status(), NetConfig::kLinkUp);
  EXPECT_EQ(driver_->interrupts.config_count(), before + 2);
}

// HG47
TEST_F(NetTest, ABrokenBackendDoesNotSpin) {
  driver_->start();
  add_receive(1600, 4);
  on_loop([&] {
    fake_.broken = true;
    fake_.arrive(frame_of(60));
  });
  driver_->settle();
  on_loop([&] {
    EXPECT_FALSE(fake_.wants);
    fake_.broken = false;
    fake_.link_changed(true);
  });
  EXPECT_EQ(receive().frame, frame_of(60));
}

TEST_F(NetTest, ABackendThatDoesNotStart) {
  on_loop([&] { fake_.fail_start = true; });
  driver_->start();
  EXPECT_TRUE(driver_->wait_needs_reset());
}

TEST_F(NetTest, ResetAtAnyTimeStartsAfresh) {
  for (int round = 0; round < 20; ++round) {
    addresses_.clear();
    driver_->start();
    add_receive(1000, 5);
    arrive(frame_of(30'000));  // waits for buffers that never come
    if (round % 2 == 0) driver_->settle();
    driver_->core->reset();
    on_loop([&] {
      EXPECT_FALSE(fake_.running());
      fake_.waiting.clear();
    });
  }
  addresses_.clear();
  driver_->start();
  add_receive(1600, 1);
  arrive(frame_of(60));
  EXPECT_EQ(receive().frame, frame_of(60));
}

}  // namespace
}  // namespace vmm::virtio
