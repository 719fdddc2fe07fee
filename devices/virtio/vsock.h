// SPDX-License-Identifier: Apache-2.0
//
// Virtio socket device (virtio 1.2, 5.10): stream sockets between programs in the guest and programs on the
// host, which a backend::VsockHost finds and accepts.
//
// A packet that breaks the rules of its connection resets the connection, and so does one that belongs to
// none, or is no stream's (5.10.6.4.2). Dropped and counted: what has no whole header, or is not from the
// guest to the host. No more than kMostConnections at once: others are refused.
//
// Missing: VIRTIO_VSOCK_F_SEQPACKET (and datagrams), and the events, whose one says that connections were
// lost in a migration. Ignored: buffers of the event queue, which just stay there; device-writable buffers of
// sent packets and device-readable ones of receive buffers; bytes behind the payload.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/backend/vsock_host.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"
#include "devices/virtio/vsock_connection.h"
#include "vmm/core/log.h"

namespace vmm::virtio {

class Vsock final : public Device {
 public:
  static constexpr uint16_t kReceive = 0;  // queues (5.10.2)
  static constexpr uint16_t kTransmit = 1;
  static constexpr uint16_t kEvent = 2;
  static constexpr size_t kMostConnections = 256;
  static constexpr uint32_t kFirstHostPort = 0x4000'0000;  // of connections that the host asks for

  struct Counts {
    uint64_t in = 0;   // bytes of payload to the guest
    uint64_t out = 0;  // from it
    uint64_t dropped = 0;
  };

  // `cid` is the guest's, 3 to 0xfffffffe (5.10.4). The host must outlive this, and is this device's alone.
  Vsock(EventLoop& loop, backend::VsockHost& host, uint32_t cid, std::string name);

  [[nodiscard]] uint16_t type() const override { return VIRTIO_ID_VSOCK; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] uint64_t features() const override { return 0; }
  [[nodiscard]] std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  [[nodiscard]] size_t config_size() const override { return sizeof(virtio_vsock_config); }
  void read_config(size_t offset, std::span<std::byte> out) override;
  void write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) override {}  // read-only (5.10.4)
  [[nodiscard]] EventLoop& loop() override { return loop_; }
  void start(uint64_t features, std::span<Queue> queues, Driver& driver) override;
  void handle_queue(uint16_t index) override;
  void stop(std::function<void()> done) override;

  [[nodiscard]] Counts counts() const;  // any thread

 private:
  static constexpr std::array<uint16_t, 3> kQueueSizes{128, 128, 16};

  struct Ports {
    uint32_t guest = 0;
    uint32_t host = 0;
    friend auto operator<=>(const Ports&, const Ports&) = default;
  };
  struct Connection {
    VsockConnection state;
    std::unique_ptr<backend::UnixStream> stream;  // none while it is closing
    [[nodiscard]] bool waiting() const { return stream && stream->readable(); }
    [[nodiscard]] bool has_packet() const;
  };
  using Connections = std::map<Ports, Connection>;

  // From the guest.
  void transmit();
  void receive(const Chain& chain);
  void receive(Connections::iterator which, const VsockPacket& packet, std::span<const iovec> payload);
  void open(const VsockPacket& request);
  void refuse(const VsockPacket& packet);
  void drop(std::string_view why);

  // From the host.
  void handle_arrival(uint32_t port, std::unique_ptr<backend::UnixStream> stream);
  void handle_change(Ports ports);
  void add(Ports ports, VsockConnection state, std::unique_ptr<backend::UnixStream> stream);
  [[nodiscard]] bool has_room();
  void look_at(Connections::iterator which);
  void reset(Connections::iterator which);
  void forget(Connections::iterator which);

  // To the guest.
  void deliver();
  [[nodiscard]] bool has_buffer();
  [[nodiscard]] std::optional<VsockPacket> next_packet();
  [[nodiscard]] std::optional<VsockPacket> packet_of(Connections::iterator which);
  [[nodiscard]] VsockPacket packet_to(Ports ports) const;

  void fail(std::string_view why);
  void close_all();

  EventLoop& loop_;
  backend::VsockHost& host_;
  const uint32_t cid_;
  const std::string name_;
  std::atomic<uint64_t> in_{0};
  std::atomic<uint64_t> out_{0};
  LogLimit drops_{8};

  // The loop's. Without a driver, or with a broken one, driver_ is none.
  Driver* driver_ = nullptr;
  std::span<Queue> queues_;
  Connections connections_;
  std::set<Ports> ready_;            // those with a packet to send
  Ports turn_;                       // the one that sent last
  std::deque<VsockPacket> replies_;  // resets without a connection
  bool stalled_ = false;             // the transmit queue waits for room in replies_
  std::optional<Chain> buffer_;      // of the receive queue, to be filled next
  uint32_t next_host_port_ = kFirstHostPort;
  std::vector<iovec> parts_;  // of the payload at hand
};

}  // namespace vmm::virtio
