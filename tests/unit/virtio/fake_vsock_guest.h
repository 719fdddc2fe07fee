// SPDX-License-Identifier: Apache-2.0
//
// A driver of a socket device, for tests: sends packets in whatever pieces, and keeps buffers ready for those
// that come.
#pragma once

#include <linux/vm_sockets.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "devices/virtio/vsock.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {

class FakeVsockGuest {
 public:
  static constexpr uint32_t kCid = 77;
  static constexpr uint32_t kPort = 1234;       // of connections that the guest asks for
  static constexpr uint32_t kBuffer = 1 << 20;  // bytes the guest has room for
  static constexpr uint32_t kPayload = 4096;    // of a receive buffer

  struct Received {
    VsockPacket header;
    std::string payload;
  };

  explicit FakeVsockGuest(Device& device) : driver(device, memory_) {}

  void start(uint32_t receive_buffers = 16) {
    driver.start(64);
    received_ = 0;
    outgoing_ = driver.ring(Vsock::kTransmit).allocate(1 << 20);
    for (uint32_t i = 0; i < receive_buffers; ++i) {
      give(driver.ring(Vsock::kReceive).allocate(VsockPacket::kSize + kPayload));
    }
    driver.notify(Vsock::kReceive);
  }
  // A receive buffer, in two pieces that have nothing to do with the header.
  void give(Gpa at) {
    incoming_[driver.ring(Vsock::kReceive)
                  .add({{at, 10, true}, {Gpa{at.raw + 10}, VsockPacket::kSize - 10 + kPayload, true}})] = at;
  }

  static VsockPacket packet(uint16_t operation, uint32_t host_port, uint32_t guest_port = kPort) {
    VsockPacket packet;
    packet.source_cid = kCid;
    packet.destination_cid = VMADDR_CID_HOST;
    packet.source_port = guest_port;
    packet.destination_port = host_port;
    packet.operation = operation;
    packet.buffer_size = kBuffer;
    return packet;
  }
  // Of a connection: the other side's ports, as it wrote them.
  static VsockPacket answer(uint16_t operation, const VsockPacket& to) {
    return packet(operation, to.source_port, to.destination_port);
  }

  // In pieces of `first` bytes and the rest. Returns when the device has taken it.
  void send(const VsockPacket& header, std::string_view payload = {}, uint32_t first = VsockPacket::kSize) {
    offer(header, payload, first);
    driver.notify(Vsock::kTransmit);
    driver.wait_used(Vsock::kTransmit);
  }
  void send_data(uint32_t host_port, std::string_view bytes, uint32_t guest_port = kPort) {
    auto header = packet(VIRTIO_VSOCK_OP_RW, host_port, guest_port);
    header.length = static_cast<uint32_t>(bytes.size());
    header.forwarded = taken_;
    send(header, bytes);
  }
  void shut_down(uint32_t host_port, uint32_t flags, uint32_t guest_port = kPort) {
    auto header = packet(VIRTIO_VSOCK_OP_SHUTDOWN, host_port, guest_port);
    header.flags = flags;
    header.forwarded = taken_;
    send(header);
  }
  void offer(const VsockPacket& header, std::string_view payload = {}, uint32_t first = VsockPacket::kSize) {
    const auto wire = header.wire();
    std::string bytes(sizeof wire, '\0');
    std::memcpy(bytes.data(), &wire, sizeof wire);
    bytes += payload;
    ASSERT_TRUE(memory_.write(outgoing_, std::as_bytes(std::span{bytes})));
    driver.ring(Vsock::kTransmit)
        .add({{outgoing_, first, false},
              {Gpa{outgoing_.raw + first}, static_cast<uint32_t>(bytes.size()) - first, false}});
  }

  // True if a packet has come.
  [[nodiscard]] bool has_packet() const { return driver.rings[Vsock::kReceive].used_index() != received_; }
  // The next packet; its buffer is given back.
  Received receive() {
    const auto used = driver.wait_used(Vsock::kReceive);
    ++received_;
    const Gpa at = incoming_[used.id];
    virtio_vsock_hdr wire{};
    EXPECT_TRUE(memory_.read(at, std::as_writable_bytes(std::span{&wire, 1})));
    Received received{.header = VsockPacket::from(wire), .payload = std::string(wire.len, '\0')};
    EXPECT_EQ(used.length, sizeof wire + wire.len);
    EXPECT_TRUE(memory_.read(Gpa{at.raw + sizeof wire}, std::as_writable_bytes(std::span{received.payload})));
    EXPECT_EQ(received.header.source_cid, uint64_t{VMADDR_CID_HOST});
    EXPECT_EQ(received.header.destination_cid, uint64_t{kCid});
    give(at);
    driver.notify(Vsock::kReceive);
    return received;
  }
  // The next one, which must be this; it may be told of room before.
  VsockPacket expect(uint16_t operation) {
    auto received = receive();
    while (operation != VIRTIO_VSOCK_OP_CREDIT_UPDATE &&
           received.header.operation == VIRTIO_VSOCK_OP_CREDIT_UPDATE) {
      received = receive();
    }
    EXPECT_EQ(received.header.operation, operation);
    return received.header;
  }
  // Payload until there is so much; the connection takes it as it comes.
  std::string receive_data(size_t enough) {
    std::string text;
    while (text.size() < enough) {
      const auto received = receive();
      if (received.header.operation != VIRTIO_VSOCK_OP_RW) {
        EXPECT_EQ(received.header.operation, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        if (received.header.operation != VIRTIO_VSOCK_OP_CREDIT_UPDATE) break;
      }
      text += received.payload;
    }
    taken_ += static_cast<uint32_t>(text.size());
    return text;
  }
  bool nothing_comes() {
    driver.settle();
    return !has_packet();
  }
  // Connects to a host's port where somebody listens.
  void connect(uint32_t host_port, uint32_t guest_port = kPort) {
    send(packet(VIRTIO_VSOCK_OP_REQUEST, host_port, guest_port));
    const auto response = expect(VIRTIO_VSOCK_OP_RESPONSE);
    EXPECT_EQ(response.source_port, host_port);
    EXPECT_EQ(response.destination_port, guest_port);
    EXPECT_EQ(response.buffer_size, VsockConnection::kBuffer);
  }

 private:
  GuestMemory memory_ = make_test_memory(8 << 20);

 public:
  FakeDriver driver;

 private:
  Gpa outgoing_;
  std::array<Gpa, 64> incoming_{};  // by head
  uint16_t received_ = 0;           // packets
  uint32_t taken_ = 0;              // bytes of payload received
};

}  // namespace vmm::virtio
