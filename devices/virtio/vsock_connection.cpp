// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock_connection.h"

namespace vmm::virtio {
namespace {

constexpr uint32_t kBothWays = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
// The guest is told of room when there is so much more than it knows of.
constexpr uint32_t kUpdateStep = VsockConnection::kBuffer / 4;

}  // namespace

VsockPacket VsockPacket::from(const virtio_vsock_hdr& wire) {
  return {.source_cid = wire.src_cid,
          .destination_cid = wire.dst_cid,
          .source_port = wire.src_port,
          .destination_port = wire.dst_port,
          .length = wire.len,
          .type = wire.type,
          .operation = wire.op,
          .flags = wire.flags,
          .buffer_size = wire.buf_alloc,
          .forwarded = wire.fwd_cnt};
}

virtio_vsock_hdr VsockPacket::wire() const {
  return {.src_cid = source_cid,
          .dst_cid = destination_cid,
          .src_port = source_port,
          .dst_port = destination_port,
          .len = length,
          .type = type,
          .op = operation,
          .flags = flags,
          .buf_alloc = buffer_size,
          .fwd_cnt = forwarded};
}

VsockConnection VsockConnection::accept(const VsockPacket& request) {
  VsockConnection connection{Phase::open, VIRTIO_VSOCK_OP_RESPONSE};
  connection.guest_buffer_ = request.buffer_size;
  connection.guest_forwarded_ = request.forwarded;
  return connection;
}

VsockConnection VsockConnection::request() {
  return {Phase::requesting, VIRTIO_VSOCK_OP_REQUEST};
}

VsockConnection::Reaction VsockConnection::receive(const VsockPacket& packet) {
  if (packet.operation == VIRTIO_VSOCK_OP_RST) return Reaction::aborted;
  guest_buffer_ = packet.buffer_size;
  guest_forwarded_ = packet.forwarded;
  if (credit() != 0) credit_asked_ = false;

  if (phase_ == Phase::requesting) {
    if (packet.operation != VIRTIO_VSOCK_OP_RESPONSE || is_unknown()) return Reaction::fault;
    phase_ = Phase::open;
    return Reaction::opened;
  }
  switch (packet.operation) {
    case VIRTIO_VSOCK_OP_RW:
      if (phase_ == Phase::closing) return Reaction::none;  // was on its way
      // Against the rules: more than there is room for (5.10.6.3.1), or after the end.
      if (!guest_sends() || packet.length > kBuffer - (received_ - forwarded_)) return Reaction::fault;
      received_ += packet.length;
      return Reaction::deliver;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
      guest_shut_ |= packet.flags & kBothWays;
      if (guest_shut_ == kBothWays) return Reaction::finished;
      return phase_ == Phase::closing ? Reaction::none : Reaction::shutdown;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
      update_asked_ = true;
      return Reaction::none;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
      return Reaction::none;
    default:
      return Reaction::fault;
  }
}

// What the guest's buffer has room for. A guest that says nonsense has none.
uint32_t VsockConnection::credit() const {
  const uint32_t on_its_way = sent_ - guest_forwarded_;
  return on_its_way < guest_buffer_ ? guest_buffer_ - on_its_way : 0;
}

uint32_t VsockConnection::room() const {
  const bool open = phase_ == Phase::open && opening_ == 0;
  return open && guest_receives() && (host_shut_ & VIRTIO_VSOCK_SHUTDOWN_SEND) == 0 ? credit() : 0;
}

uint16_t VsockConnection::due(bool waiting) const {
  if (opening_ != 0) return opening_;
  if (phase_ != Phase::open) return VIRTIO_VSOCK_OP_INVALID;
  if (host_shut_ != host_shut_told_) return VIRTIO_VSOCK_OP_SHUTDOWN;
  if (update_asked_ || forwarded_ - announced_ >= kUpdateStep) return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
  if (waiting && guest_receives() && credit() == 0 && !credit_asked_) return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
  return VIRTIO_VSOCK_OP_INVALID;
}

void VsockConnection::send(VsockPacket& packet, uint16_t operation, uint32_t length) {
  packet.operation = operation;
  packet.length = length;
  packet.buffer_size = kBuffer;
  packet.forwarded = forwarded_;
  announced_ = forwarded_;
  sent_ += length;
  switch (operation) {
    case VIRTIO_VSOCK_OP_REQUEST:
    case VIRTIO_VSOCK_OP_RESPONSE:
      opening_ = 0;
      break;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
      packet.flags = host_shut_;
      host_shut_told_ = host_shut_;
      if (host_shut_ == kBothWays) phase_ = Phase::closing;
      break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
      update_asked_ = false;
      break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
      credit_asked_ = true;
      break;
    default:
      break;
  }
}

}  // namespace vmm::virtio
