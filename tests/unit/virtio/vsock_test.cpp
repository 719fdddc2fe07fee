// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock.h"

#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_vsock_guest.h"
#include "tests/unit/vsock_programs.h"

namespace vmm::virtio {
namespace {

constexpr uint32_t kServer = 5000;
constexpr uint32_t kBothWays = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

class VsockTest : public testing::Test {
 protected:
  VsockTest() { guest_.start(); }
  ~VsockTest() override {
    guest_.driver.core->reset();
    loop_->call([this] { host_.reset(); });
  }
  std::unique_ptr<backend::VsockHost> make_host() {
    std::unique_ptr<backend::VsockHost> made;
    loop_->call([&] {
      auto host = backend::VsockHost::create(*loop_, folder_.path());
      EXPECT_TRUE(host) << host.error().message;
      made = std::move(*host);
    });
    return made;
  }
  // The server's end of a connection that the guest has made.
  Fd connect(uint32_t guest_port = FakeVsockGuest::kPort) {
    guest_.connect(kServer, guest_port);
    return accept(*server_);
  }
  // A client's end, connected to the guest's port 52, and what the guest knows of it.
  std::pair<Fd, VsockPacket> call_guest() {
    auto client = call(folder_.path(), "CONNECT 52\n");
    const auto request = guest_.expect(VIRTIO_VSOCK_OP_REQUEST);
    EXPECT_EQ(request.destination_port, 52U);
    guest_.send(FakeVsockGuest::answer(VIRTIO_VSOCK_OP_RESPONSE, request));
    const auto line = "OK " + std::to_string(request.source_port) + "\n";
    EXPECT_EQ(hear(client, line.size()), line);
    return {std::move(client), request};
  }
  bool works() {
    guest_.connect(kServer, 99);
    const auto program = accept(*server_);
    guest_.send_data(kServer, "ping", 99);
    return hear(program, 4) == "ping";
  }

  VsockFolder folder_;
  LoopThread loop_;
  std::unique_ptr<backend::VsockHost> host_ = make_host();
  std::unique_ptr<backend::ListeningSocket> server_ = folder_.listen(kServer);
  Vsock device_{*loop_, *host_, FakeVsockGuest::kCid, "vsock0"};
  FakeVsockGuest guest_{device_};
};

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

TEST_F(VsockTest, SaysWhoTheGuestIs) {
  EXPECT_EQ(device_.type(), 19);
  EXPECT_EQ(device_.features(), 0U);
  uint64_t cid = 0;
  guest_.driver.core->read_config(0, std::as_writable_bytes(std::span{&cid, 1}));
  EXPECT_EQ(cid, uint64_t{FakeVsockGuest::kCid});
}

TEST_F(VsockTest, GuestTalksToAServer) {
  const auto program = connect();
  guest_.send_data(kServer, "hello ");
  guest_.send_data(kServer, "");
  guest_.send_data(kServer, "host");
  EXPECT_EQ(hear(program, 10), "hello host");
  say(program, "hello guest");
  EXPECT_EQ(guest_.receive_data(11), "hello guest");
  EXPECT_EQ(device_.counts().out, 10U);
  EXPECT_EQ(device_.counts().in, 11U);
}

TEST_F(VsockTest, PacketsComeInAnyPieces) {
  const auto program = connect();
  auto header = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RW, kServer);
  header.length = 6;
  for (const uint32_t first : {0U, 1U, 43U, 44U, 45U, 50U}) {
    guest_.send(header, "pieces", first);
    EXPECT_EQ(hear(program, 6), "pieces") << first;
  }
  guest_.send(header, "pieces and more than it says");
  EXPECT_EQ(hear(program, 6), "pieces");
}

TEST_F(VsockTest, AClientTalksToTheGuest) {
  const auto [client, request] = call_guest();
  EXPECT_GE(request.source_port, Vsock::kFirstHostPort);
  say(client, "hello guest");
  EXPECT_EQ(guest_.receive_data(11), "hello guest");
  guest_.send_data(request.source_port, "hello host", 52);
  EXPECT_EQ(hear(client, 10), "hello host");
  const auto [another, next] = call_guest();
  EXPECT_NE(next.source_port, request.source_port);
}

TEST_F(VsockTest, WhatAClientSaysAtOnceWaitsForTheGuest) {
  const auto client = call(folder_.path(), "CONNECT 52\nearly");
  const auto request = guest_.expect(VIRTIO_VSOCK_OP_REQUEST);
  guest_.send(FakeVsockGuest::answer(VIRTIO_VSOCK_OP_RESPONSE, request));
  EXPECT_EQ(guest_.receive_data(5), "early");
}

TEST_F(VsockTest, NobodyListensOnTheHost) {
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, 5001));
  const auto reset = guest_.expect(VIRTIO_VSOCK_OP_RST);
  EXPECT_EQ(reset.source_port, 5001U);
  EXPECT_EQ(reset.destination_port, FakeVsockGuest::kPort);
}

TEST_F(VsockTest, NobodyListensInTheGuest) {
  const auto client = call(folder_.path(), "CONNECT 52\n");
  guest_.send(FakeVsockGuest::answer(VIRTIO_VSOCK_OP_RST, guest_.expect(VIRTIO_VSOCK_OP_REQUEST)));
  EXPECT_TRUE(ends(client));
}

TEST_F(VsockTest, AClientThatGoesBeforeTheAnswer) {
  auto client = call(folder_.path(), "CONNECT 52\n");
  const auto request = guest_.expect(VIRTIO_VSOCK_OP_REQUEST);
  client = Fd{};
  EXPECT_EQ(guest_.expect(VIRTIO_VSOCK_OP_RST).source_port, request.source_port);
}

TEST_F(VsockTest, WithoutADriverNobodyIsThere) {
  guest_.driver.core->reset();
  EXPECT_TRUE(ends(call(folder_.path(), "CONNECT 52\n")));
}

// ---- How it ends

TEST_F(VsockTest, GuestEndsOneWay) {
  const auto program = connect();
  guest_.send_data(kServer, "last");
  guest_.shut_down(kServer, VIRTIO_VSOCK_SHUTDOWN_SEND);
  EXPECT_EQ(hear(program), "last");  // to the end
  say(program, "answer");
  EXPECT_EQ(guest_.receive_data(6), "answer");
  guest_.shut_down(kServer, kBothWays);
  guest_.expect(VIRTIO_VSOCK_OP_RST);
  EXPECT_TRUE(ends(program));
}

TEST_F(VsockTest, GuestListensNoMore) {
  const auto program = connect();
  guest_.shut_down(kServer, VIRTIO_VSOCK_SHUTDOWN_RCV);
  EXPECT_LT(::send(program.get(), "x", 1, MSG_NOSIGNAL), 0);
  guest_.send_data(kServer, "still talking");
  EXPECT_EQ(hear(program, 13), "still talking");
}

TEST_F(VsockTest, HostEndsOneWay) {
  const auto program = connect();
  say(program, "last");
  ::shutdown(program.get(), SHUT_WR);
  EXPECT_EQ(guest_.receive_data(4), "last");
  EXPECT_EQ(guest_.expect(VIRTIO_VSOCK_OP_SHUTDOWN).flags, uint32_t{VIRTIO_VSOCK_SHUTDOWN_SEND});
  guest_.send_data(kServer, "answer");
  EXPECT_EQ(hear(program, 6), "answer");
}

TEST_F(VsockTest, HostGoes) {
  auto program = connect();
  say(program, "last");
  program = Fd{};
  std::string text;
  uint32_t flags = 0;
  while (flags != kBothWays) {  // that it takes no more may be told before what it said
    const auto received = guest_.receive();
    text += received.payload;
    flags |= received.header.flags;
    if (HasFailure()) return;
  }
  EXPECT_EQ(text, "last");
  guest_.send_data(kServer, "was on its way");
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RST, kServer));
  connect();  // the same ports are free again
}

TEST_F(VsockTest, GuestAborts) {
  const auto program = connect();
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RST, kServer));
  EXPECT_TRUE(ends(program));
  connect();
}

TEST_F(VsockTest, ASlowServerGetsWhatTheGuestLeft) {
  const auto program = connect();
  const auto text = pattern(400'000);  // more than the socket takes at once
  guest_.send_data(kServer, text.substr(0, 200'000));
  guest_.send_data(kServer, text.substr(200'000));
  guest_.shut_down(kServer, kBothWays);
  guest_.expect(VIRTIO_VSOCK_OP_RST);
  connect();  // the guest is done with it
  EXPECT_EQ(hear(program), text);
}

TEST_F(VsockTest, AResetOfTheDeviceEndsAll) {
  const auto program = connect();
  const auto [client, request] = call_guest();
  guest_.driver.core->reset();
  EXPECT_TRUE(ends(program));
  EXPECT_TRUE(ends(client));
  guest_.start();
  EXPECT_TRUE(works());
}

// ---- Credit

TEST_F(VsockTest, NoMoreThanTheGuestHasRoomFor) {
  auto request = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, kServer);
  request.buffer_size = 1000;
  guest_.send(request);
  guest_.expect(VIRTIO_VSOCK_OP_RESPONSE);
  const auto program = accept(*server_);
  const auto text = pattern(3500);
  say(program, text);
  std::string got;
  auto update = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE, kServer);
  update.buffer_size = 1000;
  while (got.size() < text.size() && !HasFailure()) {
    const auto received = guest_.receive();
    got += received.payload;
    ASSERT_LE(got.size() - update.forwarded, 1000U);
    if (received.header.operation != VIRTIO_VSOCK_OP_CREDIT_REQUEST) continue;
    ASSERT_EQ(got.size() - update.forwarded, 1000U) << "asks only when there is no room";
    update.forwarded = static_cast<uint32_t>(got.size());
    guest_.send(update);
  }
  EXPECT_EQ(got, text);
}

TEST_F(VsockTest, GuestIsToldWhenTheServerHasRead) {
  const auto program = connect();
  const std::string piece(65536, 'x');
  uint32_t sent = 0;
  uint32_t told = 0;
  // Until the server's socket is full, and then the device's buffer.
  while (sent - told < VsockConnection::kBuffer) {
    const auto room = VsockConnection::kBuffer - (sent - told);
    guest_.send_data(kServer, piece.substr(0, std::min(room, 65536U)));
    sent += std::min(room, 65536U);
    while (!guest_.nothing_comes()) told = guest_.expect(VIRTIO_VSOCK_OP_CREDIT_UPDATE).forwarded;
    ASSERT_LT(sent, 4U << 20) << "it takes more and more";
  }
  EXPECT_EQ(hear(program, sent).size(), sent);
  while (told + VsockConnection::kBuffer / 4 <= sent) {
    const auto update = guest_.expect(VIRTIO_VSOCK_OP_CREDIT_UPDATE).forwarded;
    ASSERT_GT(update, told);
    told = update;
  }
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_CREDIT_REQUEST, kServer));
  EXPECT_EQ(guest_.expect(VIRTIO_VSOCK_OP_CREDIT_UPDATE).forwarded, sent);
}

TEST_F(VsockTest, AGuestThatIgnoresItsCreditIsReset) {
  const auto program = connect();
  const std::string piece(65536, 'x');
  size_t sent = 0;
  bool reset = false;
  while (!reset) {
    guest_.send_data(kServer, piece);
    sent += piece.size();
    while (!guest_.nothing_comes()) reset = guest_.receive().header.operation == VIRTIO_VSOCK_OP_RST;
    ASSERT_LT(sent, 2U << 20) << "its buffer has no bound";
  }
  EXPECT_LT(hear(program).size(), sent);
  EXPECT_TRUE(works());
}

TEST_F(VsockTest, ASlowServerStopsItsOwnConnectionOnly) {
  const auto slow = connect();
  const auto text = pattern(400'000);
  guest_.send_data(kServer, text.substr(0, 200'000));
  guest_.send_data(kServer, text.substr(200'000));
  guest_.connect(kServer, 8);
  const auto quick = accept(*server_);
  for (int i = 0; i < 20; ++i) {
    guest_.send_data(kServer, "question", 8);
    EXPECT_EQ(hear(quick, 8), "question");
    say(quick, "answer");
    std::string answer;
    while (answer.size() < 6) answer += guest_.receive().payload;
    EXPECT_EQ(answer, "answer");
  }
  EXPECT_EQ(hear(slow, text.size()), text);
}

TEST_F(VsockTest, MuchBothWays) {
  const auto program = connect();
  const auto text = pattern(3'000'000);
  std::string heard;
  std::jthread reader{[&] { heard = hear(program, text.size()); }};
  std::jthread writer{[&] {
    for (size_t at = 0; at < text.size();) {
      const auto count = ::send(program.get(), text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (count <= 0) return;
      at += static_cast<size_t>(count);
    }
  }};
  std::string got;
  size_t sent = 0;
  uint32_t told = 0;
  while ((got.size() < text.size() || sent < text.size()) && !HasFailure()) {
    const size_t room = VsockConnection::kBuffer - (sent - told);
    const size_t piece = std::min({room, text.size() - sent, size_t{50'000}});
    auto header = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RW, kServer);
    header.length = static_cast<uint32_t>(piece);
    header.forwarded = static_cast<uint32_t>(got.size());
    guest_.send(header, std::string_view{text}.substr(sent, piece));
    sent += piece;
    if (piece != 0 && !guest_.has_packet()) continue;
    const auto received = guest_.receive();
    got += received.payload;
    told = received.header.forwarded;
  }
  reader.join();
  writer.join();
  EXPECT_TRUE(got == text);
  EXPECT_TRUE(heard == text);
}

// ---- What a guest can do wrong

TEST_F(VsockTest, StrangePacketsAreDroppedAndCounted) {
  auto wrong_source = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, kServer);
  wrong_source.source_cid = 78;
  guest_.send(wrong_source);
  wrong_source.source_cid = FakeVsockGuest::kCid | (uint64_t{1} << 32);
  guest_.send(wrong_source);
  for (const uint64_t cid : {uint64_t{0}, uint64_t{1}, uint64_t{FakeVsockGuest::kCid}, ~uint64_t{0}}) {
    auto elsewhere = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, kServer);
    elsewhere.destination_cid = cid;
    guest_.send(elsewhere);
  }
  guest_.driver.request(Vsock::kTransmit,
                        {guest_.driver.ring(Vsock::kTransmit).readable(std::string(43, '\0'))});
  guest_.driver.request(Vsock::kTransmit, {guest_.driver.ring(Vsock::kTransmit).writable(64)});
  EXPECT_TRUE(guest_.nothing_comes());
  EXPECT_EQ(device_.counts().dropped, 8U);
  EXPECT_TRUE(works());
}

TEST_F(VsockTest, OtherTypesAreReset) {
  const auto program = connect();
  for (const uint16_t type : {uint16_t{0}, uint16_t{VIRTIO_VSOCK_TYPE_SEQPACKET}, uint16_t{0xffff}}) {
    for (const uint16_t operation : {VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RST, VIRTIO_VSOCK_OP_RW}) {
      auto packet = FakeVsockGuest::packet(operation, kServer);
      packet.type = type;
      guest_.send(packet);
      if (operation == VIRTIO_VSOCK_OP_RST) continue;
      EXPECT_EQ(guest_.expect(VIRTIO_VSOCK_OP_RST).type, type);
    }
  }
  guest_.send_data(kServer, "the stream is untouched");
  EXPECT_EQ(hear(program, 23), "the stream is untouched");
}

TEST_F(VsockTest, PacketsOfNoConnectionAreReset) {
  for (const uint16_t operation :
       {uint16_t{VIRTIO_VSOCK_OP_INVALID}, uint16_t{VIRTIO_VSOCK_OP_RESPONSE},
        uint16_t{VIRTIO_VSOCK_OP_SHUTDOWN}, uint16_t{VIRTIO_VSOCK_OP_RW},
        uint16_t{VIRTIO_VSOCK_OP_CREDIT_UPDATE}, uint16_t{VIRTIO_VSOCK_OP_CREDIT_REQUEST}, uint16_t{99}}) {
    guest_.send(FakeVsockGuest::packet(operation, 4321));
    EXPECT_EQ(guest_.expect(VIRTIO_VSOCK_OP_RST).source_port, 4321U) << operation;
  }
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RST, 4321));  // never answered
  EXPECT_TRUE(works());
}

TEST_F(VsockTest, FaultsResetTheConnection) {
  for (const uint16_t operation : {uint16_t{VIRTIO_VSOCK_OP_INVALID}, uint16_t{VIRTIO_VSOCK_OP_REQUEST},
                                   uint16_t{VIRTIO_VSOCK_OP_RESPONSE}, uint16_t{99}}) {
    const auto program = connect();
    guest_.send(FakeVsockGuest::packet(operation, kServer));
    guest_.expect(VIRTIO_VSOCK_OP_RST);
    EXPECT_TRUE(ends(program)) << operation;
  }
  for (const uint32_t length : {7U, 0xffffffffU}) {  // more than there is
    const auto program = connect();
    auto packet = FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RW, kServer);
    packet.length = length;
    guest_.send(packet, "six by");
    guest_.expect(VIRTIO_VSOCK_OP_RST);
    EXPECT_TRUE(ends(program)) << length;
  }
}

TEST_F(VsockTest, ConnectionsAreBounded) {
  std::vector<Fd> programs;
  for (uint32_t i = 0; i < Vsock::kMostConnections; ++i) programs.push_back(connect(10'000 + i));
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, kServer, 9));
  guest_.expect(VIRTIO_VSOCK_OP_RST);
  EXPECT_TRUE(ends(call(folder_.path(), "CONNECT 52\n")));
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RST, kServer, 10'000));
  const auto ninth = connect(9);
  // One whose program has gone makes room, whether or not the guest agrees.
  programs[5] = Fd{};
  while (guest_.receive().header.flags != kBothWays) ASSERT_FALSE(HasFailure());
  guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, kServer, 8));
  EXPECT_EQ(guest_.expect(VIRTIO_VSOCK_OP_RST).destination_port, 10'005U);
  guest_.expect(VIRTIO_VSOCK_OP_RESPONSE);
}

// Answers wait for receive buffers, as many as there is room for; then the transmit queue waits.
TEST_F(VsockTest, AGuestThatDoesNotListenIsNotHeard) {
  guest_.driver.core->reset();
  guest_.start(0);
  auto& ring = guest_.driver.ring(Vsock::kTransmit);
  constexpr uint16_t kReplies = 128;
  for (uint16_t i = 0; i < kReplies; ++i) guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RW, 4321));
  for (int i = 0; i < 20; ++i) guest_.offer(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_RW, 4321));
  guest_.driver.notify(Vsock::kTransmit);
  guest_.driver.settle();
  EXPECT_EQ(ring.used_index(), kReplies);
  for (int i = 0; i < 16; ++i) {
    guest_.give(guest_.driver.ring(Vsock::kReceive).allocate(VsockPacket::kSize + FakeVsockGuest::kPayload));
  }
  guest_.driver.notify(Vsock::kReceive);
  for (int i = 0; i < kReplies + 20; ++i) guest_.expect(VIRTIO_VSOCK_OP_RST);
  EXPECT_TRUE(guest_.driver.interrupts.wait([&] { return ring.used_index() == kReplies + 20; }));
}

TEST_F(VsockTest, ABrokenRingNeedsAReset) {
  for (const uint16_t queue : {Vsock::kTransmit, Vsock::kReceive}) {
    guest_.driver.core->reset();
    guest_.start(queue == Vsock::kReceive ? 1 : 16);
    const auto program = connect();
    guest_.driver.ring(queue).offer(999);
    if (queue == Vsock::kReceive) {
      say(program, "x");  // for the buffer before
    }
    guest_.driver.notify(queue);
    EXPECT_TRUE(guest_.driver.wait_needs_reset()) << queue;
    EXPECT_TRUE(ends(program));
    EXPECT_TRUE(ends(call(folder_.path(), "CONNECT 52\n")));
    guest_.driver.core->reset();
    guest_.start();
    EXPECT_TRUE(works());
  }
}

TEST_F(VsockTest, ReceiveBuffersWithoutRoomNeedAReset) {
  for (const uint32_t size : {0U, 43U, 44U}) {
    guest_.driver.core->reset();
    guest_.start(0);
    guest_.driver.ring(Vsock::kReceive).add({guest_.driver.ring(Vsock::kReceive).writable(size)});
    guest_.driver.notify(Vsock::kReceive);
    guest_.driver.settle();
    EXPECT_FALSE(guest_.driver.needs_reset()) << "nothing to send";
    guest_.send(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_REQUEST, kServer));
    EXPECT_TRUE(guest_.driver.wait_needs_reset()) << size;
    accept(*server_);
  }
}

TEST_F(VsockTest, EventBuffersAreHeld) {
  auto& ring = guest_.driver.ring(Vsock::kEvent);
  for (int i = 0; i < 8; ++i) ring.add({ring.writable(4)});
  guest_.driver.notify(Vsock::kEvent);
  EXPECT_TRUE(works());
  EXPECT_EQ(ring.used_index(), 0U);
}

TEST_F(VsockTest, ResetsInTheMiddle) {
  for (int i = 0; i < 20; ++i) {
    const auto program = connect();
    say(program, pattern(100'000));
    const auto client = call(folder_.path(), "CONNECT 52\nx");
    guest_.offer(FakeVsockGuest::packet(VIRTIO_VSOCK_OP_CREDIT_REQUEST, kServer));
    guest_.driver.notify(Vsock::kTransmit);
    guest_.driver.core->reset();
    EXPECT_EQ(hear(program), "");
    guest_.start();
  }
  EXPECT_TRUE(works());
}

}  // namespace
}  // namespace vmm::virtio
