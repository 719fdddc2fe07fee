// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/vsock_host.h"

#include <sys/stat.h>

#include <mutex>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/backend/running_loop.h"
#include "tests/unit/vsock_programs.h"
#include "tests/unit/without_descriptors.h"

namespace vmm::backend {
namespace {

class VsockHostTest : public testing::TestWithParam<EventLoop::Engine> {
 protected:
  VsockHostTest() {
    auto host = VsockHost::create(*loop_, folder_.path());
    EXPECT_TRUE(host) << host.error().message;
    host_ = std::move(*host);
    host_->set_arrival([this](uint32_t port, std::unique_ptr<UnixStream> stream) {
      const std::lock_guard lock{mutex_};
      ports_.push_back(port);
      streams_.push_back(std::move(stream));
    });
    loop_.start();
  }
  ~VsockHostTest() override {
    loop_.stop();
    streams_.clear();
  }
  std::vector<uint32_t> ports() {
    const std::lock_guard lock{mutex_};
    return ports_;
  }
  bool arrives(uint32_t port) {
    return eventually([&] {
      const auto all = ports();
      return !all.empty() && all.back() == port;
    });
  }

  VsockFolder folder_;
  RunningLoop loop_{GetParam()};
  std::unique_ptr<VsockHost> host_;
  std::mutex mutex_;
  std::vector<uint32_t> ports_;
  std::vector<std::unique_ptr<UnixStream>> streams_;
};

TEST_P(VsockHostTest, SocketIsPrivateAndRemoved) {
  struct stat status{};
  ASSERT_EQ(::lstat(folder_.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  const auto second = VsockHost::create(*loop_, folder_.path());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("in use"), std::string::npos) << second.error().message;
  loop_.stop();
  host_.reset();
  EXPECT_FALSE(std::filesystem::exists(folder_.path()));
}

TEST_P(VsockHostTest, PathsLeaveRoomForAPort) {
  loop_.stop();
  const auto length = VsockHost::kLongestPath - folder_.path().native().size();
  const auto longest = folder_.path().native() + std::string(length, 'x');
  EXPECT_TRUE(VsockHost::create(*loop_, longest));
  const auto longer = VsockHost::create(*loop_, longest + "x");
  ASSERT_FALSE(longer);
  EXPECT_NE(longer.error().message.find("96"), std::string::npos) << longer.error().message;
  EXPECT_NE(longer.error().message.find("_4294967295"), std::string::npos);
}

TEST_P(VsockHostTest, ClientsNameAPort) {
  uint32_t port = 0;
  for (const auto* line : {"CONNECT %\n", "connect %\n", "CONNECT %\r\n", "CONNECT\t% \n"}) {
    std::string text = line;
    text.replace(text.find('%'), 1, std::to_string(++port));
    const auto client = call(folder_.path(), text);
    EXPECT_TRUE(arrives(port)) << line;
  }
  const auto last = call(folder_.path(), "CONNECT 4294967295\n");
  EXPECT_TRUE(arrives(4294967295));
}

TEST_P(VsockHostTest, TheAnswerAndWhatIsBehindTheLine) {
  const auto client = call(folder_.path(), "CON");
  loop_.settle();
  say(client, "NECT 52\nhello");
  ASSERT_TRUE(arrives(52));
  std::string text(100, '\0');
  loop_->call([&] {
    auto& stream = *streams_.back();
    VsockHost::confirm(stream, 1073741824);
    const iovec part{text.data(), text.size()};
    text.resize(static_cast<size_t>(std::max(stream.read({&part, 1}), ptrdiff_t{0})));
  });
  EXPECT_EQ(hear(client, 14), "OK 1073741824\n");
  EXPECT_EQ(text, "hello");
}

TEST_P(VsockHostTest, OtherLinesAreRefused) {
  for (const auto* line : {"\n", "CONNECT\n", "CONNECT \n", "CONNECT52\n", "CONNECT 52 53\n", "CONNECT -1\n",
                           "CONNECT 4294967296\n", "CONNECT 0x5\n", "GET / HTTP/1.1\r\n", "CONN\n"}) {
    EXPECT_TRUE(ends(call(folder_.path(), line))) << line;
  }
  EXPECT_TRUE(ends(call(folder_.path(), std::string(64, 'x'))));
  auto half = call(folder_.path(), "CONNECT 5");
  ::shutdown(half.get(), SHUT_WR);
  EXPECT_TRUE(ends(half));
  EXPECT_TRUE(ports().empty());
}

TEST_P(VsockHostTest, WithoutAGuestNobodyIsThere) {
  loop_->call([this] { host_->set_arrival({}); });
  EXPECT_TRUE(ends(call(folder_.path(), "CONNECT 52\n")));
}

TEST_P(VsockHostTest, SilentClientsAreBounded) {
  std::vector<Fd> silent;
  for (size_t i = 0; i < VsockHost::kMostWaiting; ++i) silent.push_back(call(folder_.path(), "C"));
  const auto client = call(folder_.path(), "CONNECT 52\n");
  EXPECT_TRUE(arrives(52));
  EXPECT_TRUE(ends(silent.front()));
  say(silent.back(), "ONNECT 53\n");
  EXPECT_TRUE(arrives(53));
}

TEST_P(VsockHostTest, AClientThatCannotBeTakenWaits) {
  Fd client;
  EXPECT_LT(work_without_descriptors(*loop_, [&] { client = call(folder_.path(), "CONNECT 52\n"); }),
            std::chrono::milliseconds{50});
  EXPECT_TRUE(arrives(52));
}

TEST_P(VsockHostTest, FindsWhoListens) {
  const auto server = folder_.listen(5000);
  std::unique_ptr<UnixStream> stream;
  loop_->call([&] {
    EXPECT_EQ(host_->connect(5001), nullptr);
    stream = host_->connect(5000);
    ASSERT_NE(stream, nullptr);
    std::string text = "hi";
    const iovec part{text.data(), text.size()};
    stream->write({&part, 1});
  });
  EXPECT_EQ(hear(accept(*server), 2), "hi");
  loop_->call([&] { stream.reset(); });
}

TEST_P(VsockHostTest, AServerThatAcceptsNobodyRefuses) {
  const auto server = folder_.listen(5000);
  std::vector<std::unique_ptr<UnixStream>> streams;
  loop_->call([&] {
    while (auto stream = host_->connect(5000)) {
      streams.push_back(std::move(stream));
      ASSERT_LT(streams.size(), 1000U);
    }
  });
  EXPECT_GT(streams.size(), 0U);
  loop_->call([&] { streams.clear(); });
}

TEST_P(VsockHostTest, ASlowProgramGetsTheRest) {
  const auto server = folder_.listen(5000);
  std::string text(2'000'000, 'x');
  loop_->call([&] {
    auto stream = host_->connect(5000);
    ASSERT_NE(stream, nullptr);
    const iovec part{text.data(), text.size()};
    stream->write({&part, 1});
    host_->linger(std::move(stream));
    EXPECT_EQ(host_->lingering(), 1U);
    auto idle = host_->connect(5000);
    host_->linger(std::move(idle));
    EXPECT_EQ(host_->lingering(), 1U) << "nothing is kept for it";
  });
  EXPECT_EQ(hear(accept(*server)), text);
  EXPECT_TRUE(ends(accept(*server)));
  const auto lingering = [&] {
    size_t count = 0;
    loop_->call([&] { count = host_->lingering(); });
    return count;
  };
  EXPECT_TRUE(eventually([&] { return lingering() == 0; }));
  // One that goes instead is not waited for.
  loop_->call([&] {
    auto stream = host_->connect(5000);
    const iovec part{text.data(), text.size()};
    stream->write({&part, 1});
    host_->linger(std::move(stream));
  });
  EXPECT_EQ(lingering(), 1U);
  accept(*server);
  EXPECT_TRUE(eventually([&] { return lingering() == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Engines, VsockHostTest,
                         testing::Values(EventLoop::Engine::any, EventLoop::Engine::epoll),
                         [](const auto& param) {
                           return param.param == EventLoop::Engine::any ? "any" : "epoll";
                         });

}  // namespace
}  // namespace vmm::backend
