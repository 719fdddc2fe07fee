// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/values.h"

#include <gtest/gtest.h>

namespace vmm::cli {
namespace {

TEST(Values, Sizes) {
  EXPECT_EQ(parse_size("512M").value_or(0), 512ULL << 20);
  EXPECT_EQ(parse_size("2g").value_or(0), 2ULL << 30);
  EXPECT_EQ(parse_size("4096").value_or(0), 4096U);
  for (const auto* bad :
       {"", "M", "-1M", "1.5G", "12X", "99999999999999999999", "17179869184G", " 1M", "1MM"}) {
    EXPECT_FALSE(parse_size(bad)) << bad;
  }
  for (const uint64_t bytes : {0ULL, 1ULL, 4096ULL, 512ULL << 20, 3ULL << 40, (1ULL << 30) + 1}) {
    EXPECT_EQ(parse_size(format_size(bytes)).value_or(~0ULL), bytes);
  }
}

TEST(Values, Cpus) {
  EXPECT_EQ(parse_cpus("4")->count, 4U);
  EXPECT_TRUE(parse_cpus("4")->pins.empty());
  EXPECT_EQ(parse_cpus("4,pin=0-3")->pins, (std::vector<uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(parse_cpus("4,pin=6,0-1,6")->pins, (std::vector<uint32_t>{6, 0, 1, 6}));
  for (const auto* text : {"1", "254", "4,pin=0-3", "4,pin=6,0-1,6", "1,pin=1023"}) {
    EXPECT_EQ(parse_cpus(text).map(format_cpus).value_or(""), text);
  }
  for (const auto* bad : {"", "0", "255", "4,", "4,pin=", "4,pin=0-2", "4,pin=0-4", "2,pin=1-0", "1,pin=1024",
                          "2,pin=0,", "2,pin=0-", "2,pin=-1", "1,pin=0-4000000000", "4,pins=0-3"}) {
    EXPECT_FALSE(parse_cpus(bad)) << bad;
  }
}

TEST(Values, Memory) {
  EXPECT_EQ(parse_memory("1G"), (MemoryValue{.size = 1ULL << 30, .backing = {}}));
  const auto memory = parse_memory("size=1G,hugepages=2M,backing=memfd,prefault");
  ASSERT_TRUE(memory) << memory.error().message;
  EXPECT_EQ(memory->size, 1ULL << 30);
  EXPECT_EQ(memory->backing, (MemoryBacking{MemoryBacking::HugePages::reserved, true, true}));
  for (const auto* text :
       {"768M", "1G,hugepages=2M,backing=memfd,prefault", "1G,hugepages=none", "4K,backing=memfd"}) {
    EXPECT_EQ(parse_memory(text).map(format_memory).value_or(""), text);
  }
  EXPECT_EQ(parse_memory("1G,hugepages=transparent").map(format_memory).value_or(""), "1G");  // the usual
  for (const auto* bad : {"", "size=", "hugepages=2M", "1G,hugepages=1G", "1G,hugepages", "1G,backing=file",
                          "1G,prefault=1", "1G,", "1G,size=2G"}) {
    EXPECT_FALSE(parse_memory(bad)) << bad;
  }
}

TEST(Values, Disks) {
  const auto disk = parse_disk("a,,b.img,ro,serial=X1");
  ASSERT_TRUE(disk) << disk.error().message;
  EXPECT_EQ(disk->file, "a,b.img");
  EXPECT_TRUE(disk->read_only);
  EXPECT_EQ(disk->serial, "X1");
  EXPECT_EQ(format_disk(*disk), "a,,b.img,ro,serial=X1");
  constexpr std::string_view kAll = "d.img,direct,queues=4,iothread,bps=10M,iops=500";
  const auto limited = parse_disk(kAll);
  ASSERT_TRUE(limited) << limited.error().message;
  EXPECT_TRUE(limited->direct);
  EXPECT_EQ(limited->queues, 4U);
  EXPECT_TRUE(limited->io_thread);
  EXPECT_EQ(limited->bytes_per_second, 10U << 20);
  EXPECT_EQ(limited->requests_per_second, 500U);
  EXPECT_EQ(format_disk(*limited), kAll);
  for (const auto* bad : {"", ",ro", "a.img,rw", "a.img,serial=123456789012345678901", "a.img,"}) {
    EXPECT_FALSE(parse_disk(bad)) << bad;
  }
}

TEST(Values, Networks) {
  const auto user = parse_net("user,hostfwd=tcp:127.0.0.1:2222-:22,mac=52:54:00:12:34:56");
  ASSERT_TRUE(user) << user.error().message;
  EXPECT_EQ(std::get<UserNetConfig>(user->backend).forwards.size(), 1U);
  ASSERT_TRUE(user->mac);
  EXPECT_EQ(parse_net(format_net(*user)).map([](const auto& net) { return format_net(net); }).value_or(""),
            format_net(*user));
  const auto tap = parse_net("tap=tap0");
  ASSERT_TRUE(tap);
  EXPECT_EQ(std::get<TapNetConfig>(tap->backend).name, "tap0");
  EXPECT_FALSE(std::get<TapNetConfig>(tap->backend).vhost);
  const auto vhost = parse_net("tap=tap0,mac=52:54:00:12:34:56,vhost");
  ASSERT_TRUE(vhost) << vhost.error().message;
  EXPECT_TRUE(std::get<TapNetConfig>(vhost->backend).vhost);
  EXPECT_EQ(format_net(*vhost), "tap=tap0,vhost,mac=52:54:00:12:34:56");
  constexpr std::string_view kLimited = "tap=t0,mac=52:54:00:12:34:56,bps=10M,pps=2000";
  const auto limited = parse_net(kLimited);
  ASSERT_TRUE(limited) << limited.error().message;
  EXPECT_EQ(limited->bytes_per_second, 10U << 20);
  EXPECT_EQ(limited->frames_per_second, 2000U);
  EXPECT_EQ(format_net(*limited), kLimited);
  constexpr std::string_view kQueues = "tap=t0,queues=16,iothread";
  const auto queues = parse_net(kQueues);
  ASSERT_TRUE(queues) << queues.error().message;
  EXPECT_EQ(std::get<TapNetConfig>(queues->backend).queues, 16U);
  EXPECT_TRUE(std::get<TapNetConfig>(queues->backend).io_thread);
  EXPECT_EQ(format_net(*queues), kQueues);
  const auto several = parse_net("user,queues=2");
  ASSERT_FALSE(several);
  EXPECT_NE(several.error().message.find("tap=NAME"), std::string::npos) << several.error().message;
  for (const auto* bad :
       {"", "tap", "tap=", "tap=t,queues=0", "tap=t,queues=17", "user,iothread", "bridge", "user,mac=1",
        "user,bps=fast", "user,pps=-1", "user,hostfwd=tcp:x", "tap=t,hostfwd=tcp::1-:2", "user,vhost",
        "tap=t,vhost=1", "tap=t,vhost,bps=1M", "tap=t,vhost,pps=5", "tap=t,vhost,queues=2",
        "tap=t,iothread,vhost", "user,mac=53:54:00:12:34:56"}) {
    EXPECT_FALSE(parse_net(bad)) << bad;
  }
}

TEST(Values, Sockets) {
  const auto vsock = parse_vsock("path=/run/a,,b,cid=0x10");
  ASSERT_TRUE(vsock) << vsock.error().message;
  EXPECT_EQ(*vsock, (VsockConfig{.cid = 16, .path = "/run/a,b"}));
  EXPECT_EQ(format_vsock(*vsock), "cid=16,path=/run/a,,b");
  for (const auto* text : {"cid=3,path=v", "cid=4294967294,path=v"}) {
    EXPECT_EQ(parse_vsock(text).map(format_vsock).value_or(""), text);
  }
  for (const auto* bad : {"", "cid=3", "path=v", "cid=3,path=", "cid=2,path=v", "cid=4294967295,path=v",
                          "cid=x,path=v", "cid=3,path=v,seqpacket"}) {
    EXPECT_FALSE(parse_vsock(bad)) << bad;
  }
}

TEST(Values, Consoles) {
  EXPECT_EQ(parse_console("stdio")->kind, ConsoleConfig::Kind::stdio);
  EXPECT_EQ(parse_console("file=a=b")->path, "a=b");
  for (const auto* text : {"stdio", "none", "file=log", "socket=/run/x"}) {
    EXPECT_EQ(format_console(*parse_console(text)), text);
  }
  for (const auto* bad : {"", "file", "file=", "pty"}) EXPECT_FALSE(parse_console(bad)) << bad;
}

TEST(Values, NumbersAndSeconds) {
  EXPECT_EQ(parse_number("0x10", 0, 100).value_or(0), 16U);
  EXPECT_FALSE(parse_number("101", 0, 100));
  EXPECT_FALSE(parse_number("0x", 0, 100));
  EXPECT_FALSE(parse_number("1 ", 0, 100));
  EXPECT_EQ(parse_seconds("2.5")->count(), 2500);
  EXPECT_EQ(parse_seconds(".0129")->count(), 13);
  EXPECT_EQ(parse_seconds("0.0001")->count(), 1);  // not 0, which is for ever
  EXPECT_EQ(parse_seconds("0.0000")->count(), 0);
  EXPECT_EQ(parse_seconds("10000000")->count(), 10'000'000'000);
  for (const auto* bad : {"", ".", "-1", "1.-1", "nan", "inf", "1e3", "1s", "1.5.", "10000000.001"})
    EXPECT_FALSE(parse_seconds(bad)) << bad;
}

TEST(Values, Escapes) {
  EXPECT_EQ(unescape("a\\n\\x03\\\\").value_or(""), "a\n\x03\\");
  for (const auto* bad : {"\\", "\\q", "\\x", "\\x0", "\\xg0"}) EXPECT_FALSE(unescape(bad)) << bad;
}

}  // namespace
}  // namespace vmm::cli
