// SPDX-License-Identifier: Apache-2.0
//
// One stream connection of a socket device (virtio 1.2, 5.10.6), as the device sees it: what the driver may
// send when, how much of it may be on its way (5.10.6.3), and which packet is due. Pure logic: it knows no
// queue and no socket.
#pragma once

#include <linux/virtio_vsock.h>

#include <compare>
#include <cstddef>
#include <cstdint>

namespace vmm::virtio {

// A packet's header (5.10.6), copied out of guest memory.
struct VsockPacket {
  static constexpr size_t kSize = sizeof(virtio_vsock_hdr);
  static_assert(kSize == 44);

  uint64_t source_cid = 0;
  uint64_t destination_cid = 0;
  uint32_t source_port = 0;
  uint32_t destination_port = 0;
  uint32_t length = 0;  // bytes of payload behind the header
  uint16_t type = VIRTIO_VSOCK_TYPE_STREAM;
  uint16_t operation = VIRTIO_VSOCK_OP_INVALID;
  uint32_t flags = 0;
  uint32_t buffer_size = 0;  // buf_alloc
  uint32_t forwarded = 0;    // fwd_cnt

  static VsockPacket from(const virtio_vsock_hdr& wire);
  [[nodiscard]] virtio_vsock_hdr wire() const;
};

class VsockConnection {
 public:
  // Room for bytes that the guest has sent and its peer has not taken yet.
  static constexpr uint32_t kBuffer = 256 * 1024;

  // One that the guest asks for, by `request`, and the host has agreed to.
  static VsockConnection accept(const VsockPacket& request);
  // One that the host asks for.
  static VsockConnection request();

  // What is to be done after a packet.
  enum class Reaction : uint8_t {
    none,
    opened,    // the guest has accepted
    deliver,   // the payload goes to the host
    shutdown,  // see guest_receives(), guest_sends()
    finished,  // both sides are done: answer with a reset, and forget the connection
    aborted,   // forget the connection
    fault,     // the guest broke the rules: reset the connection
  };
  [[nodiscard]] Reaction receive(const VsockPacket& packet);
  [[nodiscard]] bool guest_receives() const { return (guest_shut_ & VIRTIO_VSOCK_SHUTDOWN_RCV) == 0; }
  [[nodiscard]] bool guest_sends() const { return (guest_shut_ & VIRTIO_VSOCK_SHUTDOWN_SEND) == 0; }

  // What the host does. `bytes` of all that was delivered wait to be taken by it.
  void host_keeps(size_t bytes) { forwarded_ = received_ - static_cast<uint32_t>(bytes); }
  void host_sent_all() { host_shut_ |= VIRTIO_VSOCK_SHUTDOWN_SEND; }
  void host_takes_no_more() { host_shut_ |= VIRTIO_VSOCK_SHUTDOWN_RCV; }

  // The operation of the packet that is to be sent next; INVALID: none, but room() bytes of payload may be
  // sent. `waiting`: there are some.
  [[nodiscard]] uint16_t due(bool waiting) const;
  [[nodiscard]] uint32_t room() const;
  // Fills in a packet that is sent now, of this operation and `length` bytes of payload.
  void send(VsockPacket& packet, uint16_t operation, uint32_t length);

  [[nodiscard]] bool is_open() const { return phase_ == Phase::open; }
  // The guest was told that the host is done, both ways, and has to agree (5.10.6.5).
  [[nodiscard]] bool is_closing() const { return phase_ == Phase::closing; }
  // The guest knows nothing of it yet.
  [[nodiscard]] bool is_unknown() const { return opening_ == VIRTIO_VSOCK_OP_REQUEST; }

 private:
  enum class Phase : uint8_t { requesting, open, closing };

  VsockConnection(Phase phase, uint16_t opening) : phase_(phase), opening_(opening) {}
  [[nodiscard]] uint32_t credit() const;

  Phase phase_;
  uint16_t opening_;         // REQUEST or RESPONSE while that is to be sent
  uint32_t guest_shut_ = 0;  // VIRTIO_VSOCK_SHUTDOWN_*, for good (5.10.6.5)
  uint32_t host_shut_ = 0;
  uint32_t host_shut_told_ = 0;

  // Counters of bytes, modulo 2^32 (5.10.6.3).
  uint32_t received_ = 0;   // from the guest
  uint32_t forwarded_ = 0;  // of these, taken by the host
  uint32_t announced_ = 0;  // forwarded_ as the guest knows it
  uint32_t sent_ = 0;       // to the guest
  uint32_t guest_buffer_ = 0;
  uint32_t guest_forwarded_ = 0;
  bool update_asked_ = false;  // by the guest
  bool credit_asked_ = false;  // by us, in vain so far
};

}  // namespace vmm::virtio
