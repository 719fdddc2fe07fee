// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock.h"

#include <linux/vm_sockets.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

namespace vmm::virtio {
namespace {

// Packets of one turn of the loop, each way: busy sockets must not keep the loop from its disks.
constexpr int kShare = 64;
// Answers that wait for receive buffers. When there are more, the transmit queue has to wait (5.10.6.1.2).
constexpr size_t kMostReplies = 128;
constexpr uint32_t kMostPayload = 64 * 1024;  // of a packet of ours: so much of its turn a connection takes
constexpr uint32_t kHostPorts = 0x4000'0000;  // from kFirstHostPort on

}  // namespace

bool Vsock::Connection::has_packet() const {
  return state.due(waiting()) != VIRTIO_VSOCK_OP_INVALID || (waiting() && state.room() != 0);
}

Vsock::Vsock(EventLoop& loop, backend::VsockHost& host, uint32_t cid, std::string name)
    : loop_(loop), host_(host), cid_(cid), name_(std::move(name)) {}

void Vsock::read_config(size_t offset, std::span<std::byte> out) {
  const virtio_vsock_config config{.guest_cid = cid_};
  std::memcpy(out.data(), std::as_bytes(std::span{&config, 1}).subspan(offset).data(), out.size());
}

Vsock::Counts Vsock::counts() const {
  return {.in = in_.load(std::memory_order_relaxed),
          .out = out_.load(std::memory_order_relaxed),
          .dropped = drops_.seen()};
}

void Vsock::start(uint64_t /*features*/, std::span<Queue> queues, Driver& driver) {
  driver_ = &driver;
  queues_ = queues;
  for (const auto index : {kReceive, kEvent}) {
    if (queues_[index].ready()) queues_[index].disable_doorbell();
  }
  host_.set_arrival([this](uint32_t port, std::unique_ptr<backend::UnixStream> stream) {
    handle_arrival(port, std::move(stream));
  });
}

void Vsock::stop(std::function<void()> done) {
  close_all();
  done();
}

void Vsock::close_all() {
  driver_ = nullptr;
  host_.set_arrival({});
  ready_.clear();
  connections_.clear();
  replies_.clear();
  stalled_ = false;
  buffer_.reset();
}

void Vsock::fail(std::string_view why) {
  auto* driver = driver_;
  close_all();
  driver->needs_reset(why);
}

void Vsock::handle_queue(uint16_t index) {
  if (driver_ == nullptr) return;
  if (index == kTransmit) transmit();
  if (index == kReceive) deliver();
}

// ---- From the guest

void Vsock::transmit() {
  auto& queue = queues_[kTransmit];
  queue.disable_doorbell();
  int share = kShare;
  bool more = true;
  while (more && share > 0 && replies_.size() < kMostReplies) {
    --share;
    auto popped = queue.pop();
    if (!popped) return fail(to_string(popped.error()));
    if (!*popped) {
      more = queue.enable_doorbell();
      continue;
    }
    receive(**popped);
    queue.complete(std::move(**popped), 0);
  }
  driver_->notify_used(kTransmit);
  stalled_ = more && replies_.size() >= kMostReplies;
  if (more && !stalled_) driver_->handle_again(kTransmit);
  deliver();
}

void Vsock::receive(const Chain& chain) {
  virtio_vsock_hdr wire;
  if (!chain.copy_in(0, std::as_writable_bytes(std::span{&wire, 1}))) return drop("it has no whole header");
  const auto packet = VsockPacket::from(wire);
  if (packet.source_cid != cid_) return drop("it is not from the guest");
  if (packet.destination_cid != VMADDR_CID_HOST) return drop("it is not to the host");

  const bool stream = packet.type == VIRTIO_VSOCK_TYPE_STREAM;
  const auto which = stream
                         ? connections_.find({.guest = packet.source_port, .host = packet.destination_port})
                         : connections_.end();
  const bool request = stream && packet.operation == VIRTIO_VSOCK_OP_REQUEST;
  if (which == connections_.end()) return request ? open(packet) : refuse(packet);
  parts_.clear();
  const bool payload = packet.operation == VIRTIO_VSOCK_OP_RW;
  if (payload && !chain.readable_iov(VsockPacket::kSize, packet.length, parts_)) return reset(which);
  receive(which, packet, parts_);
}

void Vsock::receive(Connections::iterator which, const VsockPacket& packet, std::span<const iovec> payload) {
  using Reaction = VsockConnection::Reaction;
  auto& [state, stream] = which->second;
  switch (state.receive(packet)) {
    case Reaction::none:
      break;
    case Reaction::opened:
      backend::VsockHost::confirm(*stream, which->first.host);
      break;
    case Reaction::deliver:
      out_.fetch_add(packet.length, std::memory_order_relaxed);
      stream->write(payload);
      break;
    case Reaction::shutdown:
      if (!state.guest_receives()) stream->end_input();
      if (!state.guest_sends()) stream->end_output();
      break;
    case Reaction::finished:
      if (stream) host_.linger(std::move(stream));
      return reset(which);
    case Reaction::aborted:
      return forget(which);
    case Reaction::fault:
      return reset(which);
  }
  look_at(which);
}

void Vsock::open(const VsockPacket& request) {
  auto stream = has_room() ? host_.connect(request.destination_port) : nullptr;
  if (!stream) return refuse(request);
  add({.guest = request.source_port, .host = request.destination_port}, VsockConnection::accept(request),
      std::move(stream));
}

// A reset for a packet that belongs to no connection, unless it is one (5.10.6.4.2).
void Vsock::refuse(const VsockPacket& packet) {
  if (packet.operation == VIRTIO_VSOCK_OP_RST) return;
  auto reply = packet_to({.guest = packet.source_port, .host = packet.destination_port});
  reply.type = packet.type;
  reply.operation = VIRTIO_VSOCK_OP_RST;
  replies_.push_back(reply);
}

void Vsock::drop(std::string_view why) {
  if (drops_.pass()) log(LogLevel::warning, "{}: a packet is dropped: {}", name_, why);
}

// ---- From the host

void Vsock::handle_arrival(uint32_t port, std::unique_ptr<backend::UnixStream> stream) {
  if (!has_room()) return;  // closes it
  Ports ports{.guest = port, .host = 0};
  do {
    ports.host = next_host_port_;
    next_host_port_ = kFirstHostPort + (next_host_port_ - kFirstHostPort + 1) % kHostPorts;
  } while (connections_.contains(ports));
  add(ports, VsockConnection::request(), std::move(stream));
  deliver();
}

void Vsock::add(Ports ports, VsockConnection state, std::unique_ptr<backend::UnixStream> stream) {
  stream->set_changed([this, ports] { handle_change(ports); });
  connections_.emplace(ports, Connection{state, std::move(stream)});
  ready_.insert(ports);
}

void Vsock::handle_change(Ports ports) {
  look_at(connections_.find(ports));
  deliver();
}

// True if there may be one more. Then one that only waits for the guest to agree to its end may have had to
// go (5.10.6.5: nobody has to wait for that for ever).
bool Vsock::has_room() {
  if (connections_.size() + host_.lingering() < kMostConnections) return true;
  const auto closing =
      std::ranges::find_if(connections_, [](const auto& each) { return each.second.state.is_closing(); });
  if (closing == connections_.end()) return false;
  reset(closing);
  return true;
}

// Takes over what has become of a stream, and notes whether there is something to send.
void Vsock::look_at(Connections::iterator which) {
  auto& [ports, connection] = *which;
  auto& [state, stream] = connection;
  if (stream) {
    state.host_keeps(stream->kept());
    if (stream->broken()) {
      if (!state.is_open()) return reset(which);  // gone before the guest has answered
      state.host_takes_no_more();
      if (!state.guest_receives()) state.host_sent_all();
    }
  }
  if (connection.has_packet()) ready_.insert(ports);
}

void Vsock::reset(Connections::iterator which) {
  if (!which->second.state.is_unknown()) {
    auto packet = packet_to(which->first);
    packet.operation = VIRTIO_VSOCK_OP_RST;
    replies_.push_back(packet);
  }
  forget(which);
}

void Vsock::forget(Connections::iterator which) {
  ready_.erase(which->first);
  connections_.erase(which);
}

// ---- To the guest

void Vsock::deliver() {
  if (driver_ == nullptr || !queues_[kReceive].ready()) return;
  int share = kShare;
  while (share > 0 && (!replies_.empty() || !ready_.empty())) {
    --share;
    if (!has_buffer()) break;
    const auto packet = next_packet();
    if (!packet) continue;
    const auto wire = packet->wire();
    [[maybe_unused]] const bool wrote = buffer_->copy_out(0, std::as_bytes(std::span{&wire, 1}));
    assert(wrote);
    queues_[kReceive].complete(std::move(*buffer_),
                               static_cast<uint32_t>(VsockPacket::kSize) + packet->length);
    buffer_.reset();
  }
  if (driver_ == nullptr) return;  // its ring is broken
  driver_->notify_used(kReceive);
  if (share == 0) driver_->handle_again(kReceive);
  if (stalled_ && replies_.size() < kMostReplies) {
    stalled_ = false;
    driver_->handle_again(kTransmit);
  }
}

// Takes a buffer from the receive queue unless there is one. False when the driver has to give some first.
bool Vsock::has_buffer() {
  if (buffer_) return true;
  auto& queue = queues_[kReceive];
  queue.disable_doorbell();
  do {
    auto popped = queue.pop();
    if (!popped) {
      fail(to_string(popped.error()));
      return false;
    }
    if (!*popped) continue;
    if ((**popped).writable_size() <= VsockPacket::kSize) {
      fail("a receive buffer that has no room for a header and a byte");
      return false;
    }
    buffer_ = std::move(**popped);
    return true;
  } while (queue.enable_doorbell());
  return false;
}

// Answers first, then each connection in its turn.
std::optional<VsockPacket> Vsock::next_packet() {
  if (!replies_.empty()) {
    const auto packet = replies_.front();
    replies_.pop_front();
    return packet;
  }
  auto next = ready_.upper_bound(turn_);
  if (next == ready_.end()) next = ready_.begin();
  turn_ = *next;
  return packet_of(connections_.find(turn_));
}

// The next packet of a connection, its payload in the buffer already; none if there is none after all.
std::optional<VsockPacket> Vsock::packet_of(Connections::iterator which) {
  auto& [ports, connection] = *which;
  auto& [state, stream] = connection;
  auto packet = packet_to(ports);
  uint16_t operation = state.due(connection.waiting());
  ptrdiff_t count = 0;
  if (operation == VIRTIO_VSOCK_OP_INVALID && connection.waiting() && state.room() != 0) {
    const size_t behind = buffer_->writable_size() - VsockPacket::kSize;
    const size_t most = std::min({behind, size_t{state.room()}, size_t{kMostPayload}});
    parts_.clear();
    [[maybe_unused]] const bool inside = buffer_->writable_iov(VsockPacket::kSize, most, parts_);
    assert(inside);
    count = stream->read(parts_);
    if (count > 0) operation = VIRTIO_VSOCK_OP_RW;
    if (count == 0) {
      state.host_sent_all();
      operation = state.due(false);
    }
    if (count < 0 && count != -EAGAIN) {
      packet.operation = VIRTIO_VSOCK_OP_RST;
      forget(which);
      return packet;
    }
  }
  if (operation != VIRTIO_VSOCK_OP_INVALID) {
    state.send(packet, operation, static_cast<uint32_t>(std::max(count, ptrdiff_t{0})));
    in_.fetch_add(packet.length, std::memory_order_relaxed);
    if (state.is_closing()) stream.reset();
  }
  if (!connection.has_packet()) ready_.erase(ports);
  if (operation == VIRTIO_VSOCK_OP_INVALID) return std::nullopt;
  return packet;
}

VsockPacket Vsock::packet_to(Ports ports) const {
  VsockPacket packet;
  packet.source_cid = VMADDR_CID_HOST;
  packet.destination_cid = cid_;
  packet.source_port = ports.host;
  packet.destination_port = ports.guest;
  return packet;
}

}  // namespace vmm::virtio
