// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/user_net.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "devices/backend/vnet_header.h"
#include "tests/unit/backend/frames.h"
#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

using namespace frames;

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A socket bound to a free port of the host.
struct Bound {
  explicit Bound(int type) : fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    auto address = loopback(0);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port = ntohs(address.sin_port);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(fd.get(), 4), 0);
    }
  }
  Fd fd;
  uint16_t port = 0;
};

uint16_t free_port(int type) {
  return Bound{type}.port;
}

std::string read(int fd) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  std::array<char, 4096> bytes;
  if (::poll(&ready, 1, 5000) != 1) return {};
  const auto count = ::recv(fd, bytes.data(), bytes.size(), 0);
  return count > 0 ? std::string(bytes.data(), static_cast<size_t>(count)) : std::string{};
}

// A guest: it sends frames, answers ARP, and keeps what else it gets.
class UserNetTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  ~UserNetTest() override {
    if (running_) loop_->call([&] { net_->stop(); });
    loop_.stop();
  }
  void create(std::vector<HostForward> forwards = {}) {
    auto net = UserNet::create({.forwards = std::move(forwards)});
    ASSERT_TRUE(net) << net.error().message;
    net_ = std::move(*net);
  }
  void start() {
    running_ = true;
    loop_.start();
    loop_->call([&] {
      ASSERT_TRUE(net_->start(*loop_, [this] { take(); }));
      net_->want_receive(true);
    });
  }
  void take() {
    while (true) {
      VnetHeader header;
      std::array<char, 2048> bytes;
      const std::array<iovec, 2> into{iovec{&header, sizeof header}, iovec{bytes.data(), bytes.size()}};
      const int count = net_->receive(into);
      if (count < 0) return;
      EXPECT_EQ(header.flags, VnetHeader::kDataValid);
      const std::string frame{bytes.data(), static_cast<size_t>(count) - sizeof header};
      if (is_arp(frame) && get16(frame, 20) == 1 && get32(frame, 38) == kGuest) {
        transmit(arp_reply(frame));
        continue;
      }
      const std::lock_guard lock{mutex_};
      frames_.push_back(frame);
    }
  }
  int transmit(std::string frame, VnetHeader header = {}) {  // loop's thread
    // In pieces, as a guest has it.
    const std::array<iovec, 3> parts{iovec{&header, sizeof header}, iovec{frame.data(), frame.size() / 2},
                                     iovec{frame.data() + frame.size() / 2, frame.size() - frame.size() / 2}};
    return net_->send(parts);
  }
  void send(const std::string& frame) {
    loop_->call([&] { EXPECT_EQ(transmit(frame), 0); });
  }
  // The first frame that `wanted` likes; those before it are dropped.
  template <typename Wanted>
  std::string receive(Wanted wanted) {
    std::string found;
    EXPECT_TRUE(eventually([&] {
      const std::lock_guard lock{mutex_};
      while (!frames_.empty() && found.empty()) {
        if (wanted(frames_.front())) found = frames_.front();
        frames_.pop_front();
      }
      return !found.empty();
    }));
    return found;
  }
  // The next segment to a port of the guest that has one of these flags, or data when none is given.
  Segment receive_tcp(uint32_t port, uint32_t flags) {
    const auto frame = receive([&](const auto& got) {
      if (!is_ip(got, kTcp)) return false;
      const auto segment = parse_tcp(got);
      return segment.to == port && (flags != 0 ? (segment.flags & flags) != 0 : !segment.payload.empty());
    });
    return frame.empty() ? Segment{} : parse_tcp(frame);
  }
  // Slirp knows a guest's Ethernet address from what it sends.
  void say_hello() {
    send(ethernet(kBroadcast, kArp,
                  be16(1) + be16(kIp) + be16(0x0604) + be16(1) + std::string{kGuestMac} + be32(kGuest) +
                      std::string(6, '\0') + be32(kGateway)));
    receive([](const auto& frame) { return is_arp(frame); });
  }
  void send_tcp(const Segment& segment) { send(ethernet(gateway_mac_, kIp, tcp(kGuest, kGateway, segment))); }

  RunningLoop loop_{GetParam()};
  std::unique_ptr<UserNet> net_;
  bool running_ = false;
  std::mutex mutex_;
  std::deque<std::string> frames_;
  const std::string gateway_mac_{"\x52\x55\x0a\x00\x02\x02", 6};
};

TEST_P(UserNetTest, DhcpOffersTheFirstAddress) {
  create();
  start();
  const std::string zeroes(192, '\0');
  const auto discover = be32(0x01010600) + be32(0xcafe) + be32(0) + be32(0) + be32(0) + be32(0) + be32(0) +
                        std::string{kGuestMac} + std::string(10, '\0') + zeroes + be32(0x63825363) +
                        std::string{"\x35\x01\x01\xff", 4};
  send(ethernet(kBroadcast, kIp, ip(kUdp, 0, 0xffffffff, udp(68, 67, discover))));
  const auto offer = receive([](const auto& frame) { return is_ip(frame, kUdp); }).substr(14 + 20 + 8);
  EXPECT_EQ(get8(offer, 0), 2U);
  EXPECT_EQ(get32(offer, 4), 0xcafeU);
  EXPECT_EQ(get32(offer, 16), kGuest);
  const auto options = offer.substr(240);
  const auto has = [&](std::string_view option) { return options.find(option) != std::string::npos; };
  EXPECT_TRUE(has({"\x35\x01\x02", 3}));              // an offer
  EXPECT_TRUE(has({"\x03\x04\x0a\x00\x02\x02", 6}));  // router
  EXPECT_TRUE(has({"\x06\x04\x0a\x00\x02\x03", 6}));  // nameserver
  EXPECT_TRUE(has({"\x01\x04\xff\xff\xff\x00", 6}));  // mask
}

TEST_P(UserNetTest, ForwardedPortReachesTheGuest) {
  const auto port = free_port(SOCK_STREAM);
  create({*HostForward::parse("tcp::" + std::to_string(port) + "-:80")});
  start();
  say_hello();
  const Fd client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto address = loopback(port);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);

  const auto syn = receive_tcp(80, Segment::kSyn);
  EXPECT_EQ(syn.flags & (Segment::kSyn | Segment::kAck), Segment::kSyn);
  Segment answer{.from = 80,
                 .to = syn.from,
                 .sequence = 1000,
                 .acknowledged = syn.sequence + 1,
                 .flags = Segment::kSyn | Segment::kAck};
  send_tcp(answer);
  EXPECT_EQ(receive_tcp(80, Segment::kAck).acknowledged, 1001U);

  ASSERT_EQ(::send(client.get(), "ping", 4, 0), 4);
  const auto data = parse_tcp(
      receive([](const auto& frame) { return is_ip(frame, kTcp) && !parse_tcp(frame).payload.empty(); }));
  EXPECT_EQ(data.payload, "ping");
  answer.sequence = 1001;
  answer.acknowledged = data.sequence + 4;
  answer.flags = Segment::kAck;
  answer.payload = "pong";
  send_tcp(answer);
  EXPECT_EQ(read(client.get()), "pong");
}

TEST_P(UserNetTest, GuestConnectsToTheHost) {
  const Bound server{SOCK_STREAM};
  create();
  start();
  say_hello();
  // Many in a row: descriptors are closed and their numbers used again under the loop's watches.
  for (uint32_t i = 0; i < 20; ++i) {
    Segment segment{.from = 4000 + i, .to = server.port, .sequence = 1, .flags = Segment::kSyn};
    send_tcp(segment);
    const auto accepted = receive_tcp(segment.from, Segment::kSyn);
    ASSERT_EQ(accepted.flags & (Segment::kSyn | Segment::kAck), Segment::kSyn | Segment::kAck);
    segment.sequence = 2;
    segment.acknowledged = accepted.sequence + 1;
    segment.flags = Segment::kAck;
    segment.payload = "hello";
    send_tcp(segment);
    const Fd peer{::accept4(server.fd.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    ASSERT_TRUE(peer);
    EXPECT_EQ(read(peer.get()), "hello");
    ASSERT_EQ(::send(peer.get(), "world", 5, 0), 5);
    const auto answer = parse_tcp(
        receive([](const auto& frame) { return is_ip(frame, kTcp) && !parse_tcp(frame).payload.empty(); }));
    EXPECT_EQ(answer.payload, "world");
    segment.sequence += 5;
    segment.acknowledged += 5;
    segment.payload.clear();
    segment.flags = Segment::kAck | Segment::kFin;
    send_tcp(segment);
    EXPECT_EQ(read(peer.get()), "");  // the end
  }
}

TEST_P(UserNetTest, LongSegmentsWithoutChecksumsArrive) {
  const Bound server{SOCK_STREAM};
  create();
  start();
  say_hello();
  Segment segment{.from = 4000, .to = server.port, .sequence = 1, .flags = Segment::kSyn};
  send_tcp(segment);
  segment.acknowledged = receive_tcp(segment.from, Segment::kSyn).sequence + 1;
  const Fd peer{::accept4(server.fd.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  segment.sequence = 2;
  segment.flags = Segment::kAck;
  for (int i = 0; i < 30'000; ++i) segment.payload += static_cast<char>(i % 251);
  auto frame = ethernet(gateway_mac_, kIp, tcp(kGuest, kGateway, segment));
  // In place of the checksum the sum of the pseudo header, as a driver leaves it.
  const auto pseudo = be32(kGuest) + be32(kGateway) + be16(kTcp) + be16(20 + 30'000);
  frame.replace(50, 2, be16(~checksum(pseudo) & 0xffff));
  VnetHeader header{.flags = VnetHeader::kNeedsChecksum,
                    .gso_type = VnetHeader::kGsoTcp4,
                    .header_length = 54,
                    .gso_size = 1460,
                    .checksum_start = 34,
                    .checksum_offset = 16};
  loop_->call([&] { EXPECT_EQ(transmit(frame, header), 0); });
  std::string got;
  while (got.size() < segment.payload.size()) {
    const auto more = read(peer.get());
    ASSERT_FALSE(more.empty());
    got += more;
  }
  EXPECT_TRUE(got == segment.payload);
  header.checksum_start = static_cast<uint16_t>(frame.size());
  loop_->call([&] { EXPECT_EQ(transmit(frame, header), -EINVAL); });
}

TEST_P(UserNetTest, UdpForward) {
  const auto port = free_port(SOCK_DGRAM);
  create({*HostForward::parse("udp::" + std::to_string(port) + "-:53")});
  start();
  say_hello();
  const Fd client{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  const auto address = loopback(port);
  ASSERT_EQ(
      ::sendto(client.get(), "query", 5, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address), 5);
  const auto frame = receive([](const auto& got) { return is_ip(got, kUdp); });
  EXPECT_EQ(get16(frame, 36), 53U);
  EXPECT_EQ(frame.substr(42), "query");
}

TEST_P(UserNetTest, PortInUseIsNamed) {
  const Bound other{SOCK_STREAM};
  const auto net =
      UserNet::create({.forwards = {*HostForward::parse("tcp::" + std::to_string(other.port) + "-:22")}});
  ASSERT_FALSE(net);
  EXPECT_NE(net.error().message.find("port " + std::to_string(other.port) + " of the host is in use"),
            std::string::npos)
      << net.error().message;
}

TEST_P(UserNetTest, MtuIsChecked) {
  EXPECT_FALSE(UserNet::create({.mtu = 100}));
  EXPECT_FALSE(UserNet::create({.mtu = 65535}));
  const auto net = UserNet::create({.mtu = 9000});
  ASSERT_TRUE(net);
  EXPECT_EQ((*net)->mtu(), 9000);
}

TEST_P(UserNetTest, HostileFramesAreSurvived) {
  create();
  start();
  say_hello();
  loop_->call([&] {
    EXPECT_EQ(transmit(""), -EMSGSIZE);
    EXPECT_EQ(transmit(std::string(70'000, 'x')), -EMSGSIZE);
    EXPECT_EQ(transmit("x"), 0);  // dropped by the stack
    EXPECT_EQ(transmit(std::string(65'000, '\0')), 0);
    const auto good = ethernet(gateway_mac_, kIp, tcp(kGuest, kGateway, {.from = 1, .to = 2}));
    for (size_t length = 0; length < good.size(); ++length) transmit(good.substr(0, length));
    for (size_t at = 12; at < good.size(); ++at) {
      auto bad = good;
      bad[at] = static_cast<char>(~bad[at]);
      transmit(bad);
    }
  });
  {
    const std::lock_guard lock{mutex_};
    frames_.clear();
  }
  say_hello();  // still there
}

TEST_P(UserNetTest, QueueIsBoundedAndRecovers) {
  const Bound server{SOCK_STREAM};
  create();
  start();
  say_hello();
  // Each request for the gateway's address is one frame back, taken by nobody.
  loop_->call([&] {
    net_->want_receive(false);
    const auto ask = ethernet(kBroadcast, kArp,
                              be16(1) + be16(kIp) + be16(0x0604) + be16(1) + std::string{kGuestMac} +
                                  be32(kGuest) + std::string(6, '\0') + be32(kGateway));
    for (size_t i = 0; net_->dropped() == 0 && i < 1'000'000; ++i) transmit(ask);
    EXPECT_GT(net_->dropped(), 0U);
    net_->want_receive(true);
  });
  receive([](const auto& frame) { return is_arp(frame); });
  say_hello();
}

TEST_P(UserNetTest, MayBeStoppedAndStartedAgain) {
  create();
  start();
  say_hello();
  loop_->call([&] {
    net_->stop();
    ASSERT_TRUE(net_->start(*loop_, [this] { take(); }));
    net_->want_receive(true);
  });
  say_hello();
}

INSTANTIATE_TEST_SUITE_P(Engines, UserNetTest,
                         testing::Values(EventLoop::Engine::any, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::any ? "any" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
