// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock_connection.h"

#include <cstring>

#include <gtest/gtest.h>

namespace vmm::virtio {
namespace {

using Reaction = VsockConnection::Reaction;
constexpr uint32_t kBuffer = VsockConnection::kBuffer;
constexpr uint32_t kGuestBuffer = 1000;
constexpr uint32_t kBothWays = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

VsockPacket packet(uint16_t operation, uint32_t length = 0, uint32_t flags = 0) {
  VsockPacket packet;
  packet.operation = operation;
  packet.length = length;
  packet.flags = flags;
  packet.buffer_size = kGuestBuffer;
  return packet;
}

VsockPacket send(VsockConnection& connection, uint16_t operation, uint32_t length = 0) {
  VsockPacket sent;
  connection.send(sent, operation, length);
  return sent;
}

// Open, and nothing due.
VsockConnection open_connection() {
  auto connection = VsockConnection::accept(packet(VIRTIO_VSOCK_OP_REQUEST));
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_RESPONSE);
  send(connection, VIRTIO_VSOCK_OP_RESPONSE);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID);
  return connection;
}

TEST(VsockPacket, IsTheWireFormat) {
  const virtio_vsock_hdr wire{.src_cid = 1,
                              .dst_cid = 2,
                              .src_port = 3,
                              .dst_port = 4,
                              .len = 5,
                              .type = 6,
                              .op = 7,
                              .flags = 8,
                              .buf_alloc = 9,
                              .fwd_cnt = 10};
  const auto back = VsockPacket::from(wire).wire();
  EXPECT_EQ(std::memcmp(&back, &wire, sizeof wire), 0);
}

TEST(VsockConnection, GuestAsks) {
  auto connection = VsockConnection::accept(packet(VIRTIO_VSOCK_OP_REQUEST));
  EXPECT_EQ(connection.room(), 0U) << "payload before the response";
  const auto response = send(connection, connection.due(true));
  EXPECT_EQ(response.operation, VIRTIO_VSOCK_OP_RESPONSE);
  EXPECT_EQ(response.buffer_size, kBuffer);
  EXPECT_EQ(response.forwarded, 0U);
  EXPECT_EQ(connection.room(), kGuestBuffer);
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_INVALID);
}

TEST(VsockConnection, HostAsks) {
  auto connection = VsockConnection::request();
  EXPECT_TRUE(connection.is_unknown());
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_REQUEST);
  send(connection, VIRTIO_VSOCK_OP_REQUEST);
  EXPECT_FALSE(connection.is_unknown());
  EXPECT_FALSE(connection.is_open());
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_INVALID);
  EXPECT_EQ(connection.room(), 0U);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RESPONSE)), Reaction::opened);
  EXPECT_TRUE(connection.is_open());
  EXPECT_EQ(connection.room(), kGuestBuffer);
}

TEST(VsockConnection, GuestRefuses) {
  auto connection = VsockConnection::request();
  send(connection, VIRTIO_VSOCK_OP_REQUEST);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RST)), Reaction::aborted);
}

TEST(VsockConnection, NothingButAnAnswerToARequest) {
  for (const uint16_t operation :
       {VIRTIO_VSOCK_OP_INVALID, VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_OP_RW,
        VIRTIO_VSOCK_OP_CREDIT_UPDATE, VIRTIO_VSOCK_OP_CREDIT_REQUEST}) {
    auto connection = VsockConnection::request();
    send(connection, VIRTIO_VSOCK_OP_REQUEST);
    EXPECT_EQ(connection.receive(packet(operation)), Reaction::fault) << operation;
  }
  auto unasked = VsockConnection::request();  // an answer to what the guest cannot know
  EXPECT_EQ(unasked.receive(packet(VIRTIO_VSOCK_OP_RESPONSE)), Reaction::fault);
}

TEST(VsockConnection, OperationsThatMeanNothingHere) {
  for (const uint16_t operation : {uint16_t{VIRTIO_VSOCK_OP_INVALID}, uint16_t{VIRTIO_VSOCK_OP_REQUEST},
                                   uint16_t{VIRTIO_VSOCK_OP_RESPONSE}, uint16_t{8}, uint16_t{0xffff}}) {
    auto connection = open_connection();
    EXPECT_EQ(connection.receive(packet(operation)), Reaction::fault) << operation;
  }
}

TEST(VsockConnection, GuestFillsTheBufferAndNoMore) {
  auto connection = open_connection();
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, kBuffer - 1)), Reaction::deliver);
  connection.host_keeps(kBuffer - 1);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, 0)), Reaction::deliver);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, 1)), Reaction::deliver);
  connection.host_keeps(kBuffer);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, 1)), Reaction::fault);

  auto at_once = open_connection();
  EXPECT_EQ(at_once.receive(packet(VIRTIO_VSOCK_OP_RW, kBuffer + 1)), Reaction::fault);
  auto absurd = open_connection();
  EXPECT_EQ(absurd.receive(packet(VIRTIO_VSOCK_OP_RW, 0xffffffff)), Reaction::fault);
}

TEST(VsockConnection, GuestIsToldOfRoom) {
  auto connection = open_connection();
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, kBuffer)), Reaction::deliver);
  connection.host_keeps(kBuffer);
  connection.host_keeps(kBuffer * 3 / 4 + 1);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID) << "not for a little";
  connection.host_keeps(kBuffer * 3 / 4);
  ASSERT_EQ(connection.due(false), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  EXPECT_EQ(send(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE).forwarded, kBuffer / 4);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID);
  // Every packet says it, so that no other one is needed.
  connection.host_keeps(0);
  EXPECT_EQ(send(connection, VIRTIO_VSOCK_OP_RW, 1).forwarded, kBuffer);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID);
  // Or when it asks.
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_CREDIT_REQUEST)), Reaction::none);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

TEST(VsockConnection, CountersWrap) {
  auto connection = open_connection();
  for (uint64_t total = 0; total < (uint64_t{5} << 30); total += kBuffer) {
    ASSERT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, kBuffer)), Reaction::deliver);
    connection.host_keeps(0);
    ASSERT_EQ(connection.due(false), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    ASSERT_EQ(send(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE).forwarded,
              static_cast<uint32_t>(total + kBuffer));
  }
  auto update = packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  update.buffer_size = 1U << 30;
  for (uint64_t total = 0; total < (uint64_t{5} << 30); total += 1U << 30) {
    update.forwarded = static_cast<uint32_t>(total);
    ASSERT_EQ(connection.receive(update), Reaction::none);
    ASSERT_EQ(connection.room(), 1U << 30);
    send(connection, VIRTIO_VSOCK_OP_RW, 1U << 30);
    ASSERT_EQ(connection.room(), 0U);
  }
}

TEST(VsockConnection, NoMoreThanTheGuestHasRoomFor) {
  auto connection = open_connection();
  send(connection, VIRTIO_VSOCK_OP_RW, kGuestBuffer - 1);
  EXPECT_EQ(connection.room(), 1U);
  send(connection, VIRTIO_VSOCK_OP_RW, 1);
  EXPECT_EQ(connection.room(), 0U);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID) << "nothing waits for room";
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_CREDIT_REQUEST);
  send(connection, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_INVALID) << "asked once";
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE)), Reaction::none);
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_INVALID) << "it said that there is none";
  auto update = packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  update.forwarded = 400;
  EXPECT_EQ(connection.receive(update), Reaction::none);
  EXPECT_EQ(connection.room(), 400U);
  send(connection, VIRTIO_VSOCK_OP_RW, 400);
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_CREDIT_REQUEST);
}

TEST(VsockConnection, CreditThatIsNonsenseIsNone) {
  auto connection = open_connection();
  send(connection, VIRTIO_VSOCK_OP_RW, 10);
  auto update = packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  update.forwarded = 11;  // more than it was sent
  EXPECT_EQ(connection.receive(update), Reaction::none);
  EXPECT_EQ(connection.room(), 0U);
  update.forwarded = 10;
  update.buffer_size = 0;  // took its buffer away
  EXPECT_EQ(connection.receive(update), Reaction::none);
  EXPECT_EQ(connection.room(), 0U);
}

TEST(VsockConnection, GuestEndsOneWay) {
  auto deaf = open_connection();
  EXPECT_EQ(deaf.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, VIRTIO_VSOCK_SHUTDOWN_RCV)), Reaction::shutdown);
  EXPECT_FALSE(deaf.guest_receives());
  EXPECT_TRUE(deaf.guest_sends());
  EXPECT_EQ(deaf.room(), 0U);
  EXPECT_EQ(deaf.receive(packet(VIRTIO_VSOCK_OP_RW, 5)), Reaction::deliver);

  auto mute = open_connection();
  EXPECT_EQ(mute.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, VIRTIO_VSOCK_SHUTDOWN_SEND)),
            Reaction::shutdown);
  EXPECT_FALSE(mute.guest_sends());
  EXPECT_EQ(mute.room(), kGuestBuffer);
  EXPECT_EQ(mute.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN)), Reaction::shutdown);
  EXPECT_FALSE(mute.guest_sends()) << "what was said stays said";
  EXPECT_EQ(mute.receive(packet(VIRTIO_VSOCK_OP_RW, 5)), Reaction::fault);
}

TEST(VsockConnection, GuestEndsBothWays) {
  auto connection = open_connection();
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, ~0U)), Reaction::finished);
  auto step_by_step = open_connection();
  EXPECT_EQ(step_by_step.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, VIRTIO_VSOCK_SHUTDOWN_SEND)),
            Reaction::shutdown);
  EXPECT_EQ(step_by_step.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, VIRTIO_VSOCK_SHUTDOWN_RCV)),
            Reaction::finished);
}

TEST(VsockConnection, HostEnds) {
  auto connection = open_connection();
  connection.host_sent_all();
  EXPECT_EQ(connection.room(), 0U);
  ASSERT_EQ(connection.due(false), VIRTIO_VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(send(connection, VIRTIO_VSOCK_OP_SHUTDOWN).flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
  EXPECT_EQ(connection.due(false), VIRTIO_VSOCK_OP_INVALID);
  EXPECT_FALSE(connection.is_closing());
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, 5)), Reaction::deliver) << "half closed";
  connection.host_keeps(0);

  connection.host_takes_no_more();
  ASSERT_EQ(connection.due(false), VIRTIO_VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(send(connection, VIRTIO_VSOCK_OP_SHUTDOWN).flags, kBothWays);
  EXPECT_TRUE(connection.is_closing());
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RW, kBuffer)), Reaction::none) << "was on its way";
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_CREDIT_REQUEST)), Reaction::none);
  EXPECT_EQ(connection.due(true), VIRTIO_VSOCK_OP_INVALID);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, VIRTIO_VSOCK_SHUTDOWN_RCV)),
            Reaction::none);
  auto crossed = connection;
  EXPECT_EQ(crossed.receive(packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, kBothWays)), Reaction::finished);
  EXPECT_EQ(connection.receive(packet(VIRTIO_VSOCK_OP_RST)), Reaction::aborted);
}

}  // namespace
}  // namespace vmm::virtio
