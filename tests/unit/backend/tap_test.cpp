// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/tap.h"

#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/ethernet.h>
#include <net/if.h>

#include "devices/backend/vnet_header.h"
#include "tests/unit/backend/running_loop.h"

namespace vmm::backend {
namespace {

// What only an interface can do runs in a child with network and user namespaces of its own, as root of them.
class TapTest : public testing::Test {
 protected:
  static constexpr int kNoNamespace = 77;
  static constexpr int kNoTun = 78;

  static void in_namespace(const std::function<void()>& body) {
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const auto user = ::getuid();
      const auto group = ::getgid();
      if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 || !become_root(user, group)) ::_exit(kNoNamespace);
      if (::access("/dev/net/tun", R_OK | W_OK) != 0) ::_exit(kNoTun);
      body();
      ::_exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    if (WEXITSTATUS(status) == kNoNamespace)
      GTEST_SKIP() << "SKIPPED: no user namespace here (the host forbids it, or a sanitizer has a thread)";
    if (WEXITSTATUS(status) == kNoTun) GTEST_SKIP() << "SKIPPED: no access to /dev/net/tun";
    EXPECT_EQ(WEXITSTATUS(status), 0) << "see above";
  }

  // Of a new user namespace: so that programs started there, and namespaces made there, have power too.
  static bool become_root(uid_t user, gid_t group) {
    const auto write = [](const char* path, const std::string& text) {
      const Fd file{::open(path, O_WRONLY | O_CLOEXEC)};
      return ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    };
    return write("/proc/self/setgroups", "deny") &&
           write("/proc/self/uid_map", fmt::format("0 {} 1", user)) &&
           write("/proc/self/gid_map", fmt::format("0 {} 1", group));
  }

  // A packet socket at the host's end of the tap.
  static Fd host_end(const char* name) {
    Fd socket{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))};
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(name));
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return socket;
  }

  static void set_flag(const char* name, int flag, bool on) {
    const Fd control{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ifreq request{};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    ASSERT_EQ(::ioctl(control.get(), SIOCGIFFLAGS, &request), 0);
    request.ifr_flags = static_cast<short>(on ? request.ifr_flags | flag : request.ifr_flags & ~flag);
    ASSERT_EQ(::ioctl(control.get(), SIOCSIFFLAGS, &request), 0);
  }

  static double cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
};

// An Ethernet frame that nothing else on the link sends.
std::string frame_of(size_t payload) {
  return std::string{"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5", 14} +
         std::string(payload, 'p');
}

TEST_F(TapTest, NamesAreChecked) {
  for (const auto* name : {"", "0123456789abcdef", "tap%d", "a/b", "a b", ".", "..", "a:b", "tap\n"}) {
    const auto tap = Tap::create(name);
    ASSERT_FALSE(tap) << name;
    EXPECT_NE(tap.error().message.find(std::string{"'"} + name + "'"), std::string::npos)
        << tap.error().message;
  }
}

TEST_F(TapTest, SendsAndReceives) {
  in_namespace([] {
    auto made = Tap::create("vmmtap0");
    ASSERT_TRUE(made) << made.error().message;
    auto& tap = **made;
    EXPECT_EQ(tap.mtu(), 1500);
    EXPECT_EQ(tap.send_offloads() & TUN_F_CSUM, static_cast<uint32_t>(TUN_F_CSUM));
    EXPECT_TRUE(eventually([&] { return tap.link_up(); }));
    const auto host = host_end("vmmtap0");

    VnetHeader header;
    auto out = frame_of(100);
    const std::array<iovec, 2> from{iovec{&header, sizeof header}, iovec{out.data(), out.size()}};
    EXPECT_EQ(tap.send(from), 0);
    std::array<char, 2048> got{};
    EXPECT_TRUE(eventually([&] {
      const auto count = ::recv(host.get(), got.data(), got.size(), MSG_DONTWAIT);
      return count == static_cast<ssize_t>(out.size()) && out == std::string_view{got.data(), out.size()};
    }));

    RunningLoop loop;
    std::atomic<int> seen{0};
    ASSERT_TRUE(tap.start(*loop, [&] {
      while (true) {
        std::array<char, 2048> bytes{};
        const std::array<iovec, 2> into{iovec{&header, sizeof header}, iovec{bytes.data(), bytes.size()}};
        const int count = tap.receive(into);
        if (count < 0) {
          EXPECT_EQ(count, -EAGAIN);
          return;
        }
        if (static_cast<size_t>(count) == sizeof header + out.size() &&
            out == std::string_view{bytes.data(), out.size()}) {
          ++seen;
        }
      }
    }));
    loop.start();
    ASSERT_EQ(::send(host.get(), out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
    std::this_thread::sleep_for(std::chrono::milliseconds{30});
    EXPECT_EQ(seen.load(), 0);  // not wanted yet
    loop->call([&] { tap.want_receive(true); });
    EXPECT_TRUE(eventually([&] { return seen.load() == 1; }));
    loop->call([&] { tap.stop(); });
    loop.stop();
  });
}

TEST_F(TapTest, DownedTapIsALostLink) {
  in_namespace([] {
    auto made = Tap::create("vmmtap0");
    ASSERT_TRUE(made) << made.error().message;
    auto& tap = **made;
    ASSERT_TRUE(eventually([&] { return tap.link_up(); }));
    RunningLoop loop;
    std::atomic<int> up{-1};
    tap.set_link_changed([&](bool now) { up = now ? 1 : 0; });
    loop.start();
    loop->call([&] {
      ASSERT_TRUE(tap.start(*loop, [] {}));
      tap.want_receive(true);
    });
    set_flag("vmmtap0", IFF_UP, false);
    EXPECT_TRUE(eventually([&] { return up.load() == 0; }));
    VnetHeader header;
    auto out = frame_of(100);
    const std::array<iovec, 2> from{iovec{&header, sizeof header}, iovec{out.data(), out.size()}};
    loop->call([&] { EXPECT_LT(tap.send(from), 0); });
    set_flag("vmmtap0", IFF_UP, true);
    EXPECT_TRUE(eventually([&] { return up.load() == 1; }));
    loop->call([&] { tap.stop(); });
    loop.stop();
  });
}

TEST_F(TapTest, DeletedTapDoesNotSpin) {
  in_namespace([] {
    for (const auto engine : {EventLoop::Engine::any, EventLoop::Engine::epoll}) {
      auto made = Tap::create("vmmtap0");
      ASSERT_TRUE(made) << made.error().message;
      auto& tap = **made;
      ASSERT_TRUE(eventually([&] { return tap.link_up(); }));
      RunningLoop loop{engine};
      std::atomic<int> up{-1};
      tap.set_link_changed([&](bool now) { up = now ? 1 : 0; });
      loop.start();
      loop->call([&] {
        ASSERT_TRUE(tap.start(*loop, [&] {
          std::array<char, 2048> bytes{};
          const iovec into{bytes.data(), bytes.size()};
          while (tap.receive({&into, 1}) >= 0) {
          }
        }));
        tap.want_receive(true);
      });
      ASSERT_EQ(std::system("ip link del vmmtap0"), 0);
      EXPECT_TRUE(eventually([&] { return up.load() == 0; }));
      const auto before = cpu_seconds();
      std::this_thread::sleep_for(std::chrono::milliseconds{300});
      EXPECT_LT(cpu_seconds() - before, 0.1);
      loop->call([&] {
        EXPECT_FALSE(tap.link_up());
        tap.stop();
      });
      loop.stop();
    }
  });
}

TEST_F(TapTest, ExistingTapOfEitherKindIsOpenedAndOutlivesUs) {
  in_namespace([] {
    ASSERT_EQ(std::system("ip tuntap add dev one mode tap && ip tuntap add dev many mode tap multi_queue && "
                          "ip link set one mtu 9000"),
              0);
    {
      const auto one = Tap::create("one");
      ASSERT_TRUE(one) << one.error().message;
      EXPECT_EQ((*one)->mtu(), 9000);
      const auto many = Tap::create("many");
      EXPECT_TRUE(many) << many.error().message;
      const auto twice = Tap::create("one");
      ASSERT_FALSE(twice);
      EXPECT_NE(twice.error().message.find("another process has it"), std::string::npos)
          << twice.error().message;
    }
    EXPECT_NE(::if_nametoindex("one"), 0U);
  });
}

// Asked by detaching it, which only one that is attached can be, and attaching it again.
bool attached(NetQueue& queue) {
  const int fd = dynamic_cast<TapQueue&>(queue).fd();
  ifreq request{};
  request.ifr_flags = IFF_DETACH_QUEUE;
  if (::ioctl(fd, TUNSETQUEUE, &request) != 0) return false;
  request.ifr_flags = IFF_ATTACH_QUEUE;
  EXPECT_EQ(::ioctl(fd, TUNSETQUEUE, &request), 0);
  return true;
}

// Only the first queue is the interface's until another is started, and each moves frames.
TEST_F(TapTest, SeveralQueues) {
  in_namespace([] {
    auto made = Tap::create("vmmtap0", 3);
    ASSERT_TRUE(made) << made.error().message;
    auto& tap = **made;
    ASSERT_EQ(tap.further_queues().size(), 2U);
    EXPECT_FALSE(attached(*tap.further_queues()[0]));
    EXPECT_FALSE(attached(*tap.further_queues()[1]));
    ASSERT_TRUE(eventually([&] { return tap.link_up(); }));
    const auto host = host_end("vmmtap0");
    RunningLoop loop;
    std::array<std::atomic<int>, 3> seen{};
    const auto receive_all = [](NetQueue& queue, std::atomic<int>& count) {
      std::array<char, 2048> bytes{};
      const iovec into{bytes.data(), bytes.size()};
      while (queue.receive({&into, 1}) >= 0) ++count;
    };
    const auto queue = [&](size_t i) -> NetQueue& { return i == 0 ? tap : *tap.further_queues()[i - 1]; };
    loop.start();
    loop->call([&] {
      for (size_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(queue(i).start(*loop, [&, i] { receive_all(queue(i), seen[i]); }));
        queue(i).want_receive(true);
      }
    });
    loop->call([&] {
      for (size_t i = 1; i < 3; ++i) EXPECT_TRUE(attached(queue(i))) << i;
    });

    VnetHeader header;
    auto out = frame_of(100);
    const std::array<iovec, 2> from{iovec{&header, sizeof header}, iovec{out.data(), out.size()}};
    for (size_t i = 0; i < 3; ++i) loop->call([&] { EXPECT_EQ(queue(i).send(from), 0) << i; });
    int arrived = 0;
    EXPECT_TRUE(eventually([&] {
      std::array<char, 2048> got{};
      const auto count = ::recv(host.get(), got.data(), got.size(), MSG_DONTWAIT);
      arrived += static_cast<int>(count == static_cast<ssize_t>(out.size()));
      return arrived == 3;
    }));
    const auto before = seen[0] + seen[1] + seen[2];
    ASSERT_EQ(::send(host.get(), out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
    EXPECT_TRUE(eventually([&] { return seen[0] + seen[1] + seen[2] > before; }));

    loop->call([&] {
      queue(2).stop();
      queue(1).stop();
      EXPECT_FALSE(attached(queue(1)));
    });
    loop->call([&] {
      EXPECT_EQ(tap.send(from), 0);
      EXPECT_TRUE(queue(1).start(*loop, [] {}));  // and again
      EXPECT_TRUE(attached(queue(1)));
      EXPECT_FALSE(attached(queue(2)));
      queue(1).stop();
      tap.stop();
    });
    loop.stop();
  });
}

TEST_F(TapTest, ATapMadeForOneQueueIsRefusedForSeveral) {
  in_namespace([] {
    ASSERT_EQ(std::system("ip tuntap add dev one mode tap && ip tuntap add dev many mode tap multi_queue"),
              0);
    const auto one = Tap::create("one", 2);
    ASSERT_FALSE(one);
    EXPECT_NE(one.error().message.find("sudo ip tuntap add dev one mode tap multi_queue"), std::string::npos)
        << one.error().message;
    const auto many = Tap::create("many", 2);
    ASSERT_TRUE(many) << many.error().message;
    EXPECT_EQ((*many)->further_queues().size(), 1U);
    const auto loopback = Tap::create("lo", 2);
    ASSERT_FALSE(loopback);
    EXPECT_NE(loopback.error().message.find("not a tap"), std::string::npos) << loopback.error().message;
  });
}

TEST_F(TapTest, OtherInterfacesAreRefused) {
  in_namespace([] {
    const auto tap = Tap::create("lo");
    ASSERT_FALSE(tap);
    EXPECT_NE(tap.error().message.find("not a tap"), std::string::npos) << tap.error().message;
  });
}

TEST_F(TapTest, WithoutThePrivilegeTheCommandIsNamed) {
  in_namespace([] {
    // A new user namespace inside the first one has no power over the network of the first.
    if (::unshare(CLONE_NEWUSER) != 0) ::_exit(kNoNamespace);
    const auto tap = Tap::create("vmmtap0");
    ASSERT_FALSE(tap);
    EXPECT_NE(tap.error().message.find("sudo ip tuntap add dev vmmtap0 mode tap user"), std::string::npos)
        << tap.error().message;
  });
}

}  // namespace
}  // namespace vmm::backend
