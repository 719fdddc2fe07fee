// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/line_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <future>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/without_descriptors.h"

namespace vmm {
namespace {

class LineServerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "line-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    start();
  }
  void TearDown() override {
    stop();
    std::filesystem::remove_all(folder_);
  }
  // Echoes "…!"; a request "later" is answered when something else is asked.
  void start() {
    loop_->call([this] {
      auto made = LineServer::create(*loop_, path(), "test socket",
                                     [this](std::string_view request, const LineServer::Answer& answer) {
                                       if (request == "later") {
                                         later_.push_back(answer);
                                         return;
                                       }
                                       for (const auto& each : later_) each("at last");
                                       later_.clear();
                                       answer(std::string{request} + "!");
                                     });
      ASSERT_TRUE(made) << made.error().message;
      server_ = std::move(*made);
    });
  }
  void stop() {
    loop_->call([this] { server_.reset(); });
  }
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "socket"; }

  [[nodiscard]] Fd connect() const { return backend::connect_to_socket(path(), "test socket").value(); }
  static void send(const Fd& client, std::string_view text) {
    ASSERT_EQ(::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // What comes until there are `length` bytes or the other side hangs up.
  static std::string receive(const Fd& client, size_t length) {
    std::string text(length, '\0');
    size_t got = 0;
    while (got < length) {
      const auto count = ::recv(client.get(), text.data() + got, length - got, 0);
      if (count <= 0) break;
      got += static_cast<size_t>(count);
    }
    text.resize(got);
    return text;
  }

  std::filesystem::path folder_;
  LoopThread loop_;
  std::unique_ptr<LineServer> server_;
  std::vector<LineServer::Answer> later_;
};

TEST_F(LineServerTest, AnswersEveryLineInOrder) {
  const auto client = connect();
  send(client, "one\ntwo\n\nth");
  EXPECT_EQ(receive(client, 11), "one!\ntwo!\n!");
  send(client, "ree\n");
  EXPECT_EQ(receive(client, 8), "\nthree!\n");
  EXPECT_EQ(ask_line_server(path(), "test socket", "once").value_or(""), "once!");
}

TEST_F(LineServerTest, SocketIsItsOwnersAndGoesWithIt) {
  struct stat status{};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  stop();
  EXPECT_FALSE(std::filesystem::exists(path()));
  const auto refused = ask_line_server(path(), "test socket", "x");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(path().string()), std::string::npos);
}

TEST_F(LineServerTest, PathInUseIsRefusedAndOneLeftBehindReplaced) {
  loop_->call([this] {
    EXPECT_FALSE(LineServer::create(*loop_, path(), "test socket", {}));
    EXPECT_FALSE(LineServer::create(*loop_, folder_, "test socket", {}));
    EXPECT_FALSE(LineServer::create(*loop_, folder_ / std::string(200, 'x'), "test socket", {}));
  });
  stop();
  {
    const Fd dead{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const auto again = backend::ListeningSocket::create(path(), "test socket");
    ASSERT_TRUE(again);
    ASSERT_EQ(::rename(path().c_str(), (folder_ / "aside").c_str()), 0);  // its owner cannot remove it
  }
  ASSERT_EQ(::rename((folder_ / "aside").c_str(), path().c_str()), 0);
  start();
  EXPECT_EQ(ask_line_server(path(), "test socket", "x").value_or(""), "x!");
}

TEST_F(LineServerTest, ALateAnswerHoldsNobodyElseUp) {
  const auto patient = connect();
  send(patient, "later\nnext\n");
  {
    const auto gone = connect();  // its answer finds nobody
    send(gone, "later\n");
  }
  const auto other = connect();
  send(other, "a\n");
  EXPECT_EQ(receive(other, 3), "a!\n");
  send(other, "b\n");  // the first may have come before "later"
  EXPECT_EQ(receive(other, 3), "b!\n");
  send(other, "c\n");
  EXPECT_EQ(receive(other, 3), "c!\n");
  EXPECT_EQ(receive(patient, 14), "at last\nnext!\n");
}

TEST_F(LineServerTest, WhoTakesNoAnswersIsLeftAlone) {
  const auto deaf = connect();
  const std::string request = std::string(60000, 'x') + "\n";
  ASSERT_EQ(::fcntl(deaf.get(), F_SETFL, O_NONBLOCK), 0);
  size_t sent = 0;
  for (int tries = 0; tries < 2000 && sent < 100 * request.size(); ++tries) {
    const auto at = sent % request.size();
    const auto count = ::send(deaf.get(), request.data() + at, request.size() - at, MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<size_t>(count);
    if (count < 0) ::usleep(1000);
  }
  EXPECT_LT(sent, 100 * request.size());  // it was not read on and on
  EXPECT_EQ(ask_line_server(path(), "test socket", "x").value_or(""), "x!");
}

TEST_F(LineServerTest, TooLongALineEndsTheConnection) {
  const auto client = connect();
  const std::string request(LineServer::kLongestRequest + 4096, 'x');
  size_t sent = 0;
  while (sent < request.size()) {
    const auto count = ::send(client.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) break;
    sent += static_cast<size_t>(count);
  }
  EXPECT_EQ(receive(client, 1), "");
  EXPECT_EQ(ask_line_server(path(), "test socket", "x").value_or(""), "x!");
}

TEST_F(LineServerTest, TheLongestIdleClientMakesRoom) {
  std::vector<Fd> clients;
  for (size_t i = 0; i < LineServer::kMostClients; ++i) {
    clients.push_back(connect());
    send(clients.back(), "x\n");
    EXPECT_EQ(receive(clients.back(), 3), "x!\n");
  }
  send(clients.front(), "y\n");
  EXPECT_EQ(receive(clients.front(), 3), "y!\n");
  EXPECT_EQ(ask_line_server(path(), "test socket", "z").value_or(""), "z!");
  EXPECT_EQ(receive(clients[1], 1), "");  // closed
  send(clients.front(), "y\n");
  EXPECT_EQ(receive(clients.front(), 3), "y!\n");
}

TEST_F(LineServerTest, AClientThatCannotBeTakenWaits) {
  Fd client;
  EXPECT_LT(work_without_descriptors(*loop_, [&] { client = connect(); }), std::chrono::milliseconds{50});
  send(client, "x\n");
  EXPECT_EQ(receive(client, 3), "x!\n");
}

TEST_F(LineServerTest, WhoAsksDoesNotWaitForEver) {
  const auto refusal_of = [this](const std::filesystem::path& path) {
    const auto answer = ask_line_server(path, "test socket", "later", std::chrono::milliseconds{50});
    return answer ? *answer : answer.error().message;
  };
  EXPECT_NE(refusal_of(path()).find("no answer within 0.05 s"), std::string::npos) << refusal_of(path());
  // As behind a process that is stopped: nobody is accepted, until no more can queue.
  const auto stopped = backend::ListeningSocket::create(folder_ / "stopped", "test socket");
  ASSERT_TRUE(stopped) << stopped.error().message;
  std::vector<Fd> waiting;
  while (auto next = backend::connect_without_waiting(folder_ / "stopped", "test socket")) {
    waiting.push_back(std::move(*next));
    ASSERT_LT(waiting.size(), 1000U);
  }
  const auto refusal = refusal_of(folder_ / "stopped");
  EXPECT_NE(refusal.find("no answer within 0.05 s"), std::string::npos) << refusal;
}

}  // namespace
}  // namespace vmm
