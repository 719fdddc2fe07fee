// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/disk_operation.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <initializer_list>
#include <memory>
#include <optional>

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

using Kind = BlockRequest::Kind;

// A loop whose kernel answers as the test says.
class ScriptedLoop final : public EventLoop {
 public:
  struct Step {
    FileOp::Kind kind;
    int mode;
    uint64_t offset;
    uint64_t length;  // fallocate: its length, transfers: the sum of the buffers
    const void* first;
    friend bool operator==(const Step&, const Step&) = default;
  };
  ScriptedLoop() : EventLoop(EventFd::create().value()) {}
  Watch watch(int /*fd*/, uint32_t /*events*/, Handler /*handler*/) override { return {}; }
  Watch watch_bell(const EventFd& /*bell*/, std::function<void()> /*handler*/) override { return {}; }
  void ring(const EventFd& /*bell*/) override {}
  void flush() override {}
  void submit(const FileOp& op, IoCompletion& completion) override {
    uint64_t sum = 0;
    for (const auto& buffer : op.buffers) sum += buffer.iov_len;
    const bool transfer = op.kind == FileOp::Kind::readv || op.kind == FileOp::Kind::writev;
    steps.push_back({op.kind, op.mode, op.offset, transfer ? sum : op.length,
                     op.buffers.empty() ? nullptr : op.buffers.front().iov_base});
    completion_ = &completion;
  }
  Engine engine() const override { return Engine::any; }
  void answer(int32_t result) { std::exchange(completion_, nullptr)->complete(result); }
  [[nodiscard]] bool waiting() const { return completion_ != nullptr; }

  std::vector<Step> steps;

 protected:
  void turn() override {}
  void unwatch(uint64_t /*id*/) override {}

 private:
  IoCompletion* completion_ = nullptr;
};

struct Outcome : IoCompletion {
  void complete(int32_t value) override {
    EXPECT_FALSE(result) << "completed twice";
    result = value;
  }
  std::optional<int32_t> result;
};

class DiskOperationTest : public testing::Test {
 protected:
  void start(const BlockRequest& request) { operations_.take().start(7, loop_, request, outcome_); }
  // Answers every step, and returns what was reported in the end.
  int32_t answers(std::initializer_list<int32_t> results) {
    for (const int32_t result : results) {
      EXPECT_FALSE(outcome_.result) << "over before " << result;
      loop_.answer(result);
    }
    EXPECT_FALSE(loop_.waiting());
    return outcome_.result.value_or(1);
  }
  static constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  static constexpr int kZero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

  ScriptedLoop loop_;
  DiskOperations operations_;
  Outcome outcome_;
  std::array<std::byte, 3072> data_{};
  std::array<iovec, 3> buffers_{iovec{data_.data(), 1024}, iovec{data_.data() + 1024, 512},
                                iovec{data_.data() + 1536, 1536}};
  BlockRequest read_{.kind = Kind::read, .offset = 4096, .length = 3072, .buffers = buffers_};
};

TEST_F(DiskOperationTest, WholeTransfer) {
  start(read_);
  EXPECT_EQ(answers({3072}), 0);
  EXPECT_EQ(loop_.steps,
            (std::vector<ScriptedLoop::Step>{{FileOp::Kind::readv, 0, 4096, 3072, data_.data()}}));
}

TEST_F(DiskOperationTest, ShortTransfersAreContinued) {
  start(read_);
  // In the first buffer, at a border, in the last buffer twice.
  EXPECT_EQ(answers({100, 924 + 512, 1000, 535, 1}), 0);
  const std::vector<ScriptedLoop::Step> expected{
      {FileOp::Kind::readv, 0, 4096, 3072, data_.data()},
      {FileOp::Kind::readv, 0, 4196, 2972, data_.data() + 100},
      {FileOp::Kind::readv, 0, 5632, 1536, data_.data() + 1536},
      {FileOp::Kind::readv, 0, 6632, 536, data_.data() + 2536},
      {FileOp::Kind::readv, 0, 7167, 1, data_.data() + 3071},
  };
  EXPECT_EQ(loop_.steps, expected);
}

TEST_F(DiskOperationTest, InterruptedIsRepeated) {
  start(read_);
  EXPECT_EQ(answers({-EINTR, -EAGAIN, 3072}), 0);
  EXPECT_EQ(loop_.steps[0], loop_.steps[2]);
}

// HG42: truncated while running, and the errors of a failing disk
TEST_F(DiskOperationTest, NothingMovedIsAnError) {
  start(read_);
  EXPECT_EQ(answers({512, 0}), -EIO);
}

TEST_F(DiskOperationTest, ErrorsAreReported) {
  start(read_);
  EXPECT_EQ(answers({-EIO}), -EIO);
  outcome_ = {};
  auto write = read_;
  write.kind = Kind::write;
  start(write);
  EXPECT_EQ(answers({512, -ENOSPC}), -ENOSPC);
  outcome_ = {};
  start({.kind = Kind::flush});
  EXPECT_EQ(answers({-EIO}), -EIO);
}

TEST_F(DiskOperationTest, MoreBuffersThanTheKernelTakes) {
  const std::vector many(1500, iovec{data_.data(), 1});
  start({.kind = Kind::write, .length = 1500, .buffers = many});
  EXPECT_EQ(answers({1024, 476}), 0);
  EXPECT_EQ(loop_.steps[1].length, 476U);
}

TEST_F(DiskOperationTest, LongTransfersAreMadeInSteps) {
  constexpr int32_t kMiB = 1 << 20;
  std::vector<std::byte> memory(3 << 20);
  const std::vector<iovec> buffers{
      {memory.data(), 4096}, {memory.data(), 2 * kMiB + 512}, {memory.data(), 512}};
  start({.kind = Kind::read, .offset = 512, .length = 2 * kMiB + 5120, .buffers = buffers});
  EXPECT_EQ(answers({4096, kMiB, 1000, kMiB - 488, 512}), 0);
  std::vector<std::pair<uint64_t, uint64_t>> steps;
  for (const auto& step : loop_.steps) steps.emplace_back(step.offset, step.length);
  const std::vector<std::pair<uint64_t, uint64_t>> expected{
      {512, 4096}, {4608, kMiB}, {4608 + kMiB, kMiB}, {5608 + kMiB, kMiB - 488}, {5120 + 2 * kMiB, 512}};
  EXPECT_EQ(steps, expected);
}

TEST_F(DiskOperationTest, CancelledItEndsAfterItsStep) {
  const std::vector<iovec> buffers{{data_.data(), 4U << 20}};
  start({.kind = Kind::write, .length = 4U << 20, .buffers = buffers});
  operations_.cancel();
  EXPECT_EQ(answers({1 << 20}), -ECANCELED);
  outcome_ = {};
  start({.kind = Kind::write, .length = 4U << 20, .buffers = buffers});  // the operation is used again
  EXPECT_EQ(answers({1 << 20, 1 << 20, 1 << 20, 1 << 20}), 0);
  outcome_ = {};
  start({.kind = Kind::flush});
  operations_.cancel();
  EXPECT_EQ(answers({0}), 0);  // its only step was done
}

TEST_F(DiskOperationTest, DiscardIsAdvice) {
  for (const int32_t unsupported : {-EOPNOTSUPP, -EINVAL, -ENOSYS}) {
    outcome_ = {};
    start({.kind = Kind::discard, .offset = 512, .length = 1024});
    EXPECT_EQ(answers({unsupported}), 0);
  }
  EXPECT_EQ(loop_.steps[0], (ScriptedLoop::Step{FileOp::Kind::fallocate, kPunch, 512, 1024, nullptr}));
  outcome_ = {};
  start({.kind = Kind::discard, .offset = 512, .length = 1024});
  EXPECT_EQ(answers({-EIO}), -EIO);
}

TEST_F(DiskOperationTest, ZeroesByWhatTheFileSystemHas) {
  start({.kind = Kind::write_zeroes, .may_unmap = true, .length = 4096});
  EXPECT_EQ(answers({0}), 0);
  outcome_ = {};
  start({.kind = Kind::write_zeroes, .length = 4096});
  EXPECT_EQ(answers({0}), 0);
  outcome_ = {};
  constexpr uint64_t kLength = (1 << 20) + 700;
  start({.kind = Kind::write_zeroes, .may_unmap = true, .offset = 512, .length = kLength});
  EXPECT_EQ(answers({-EOPNOTSUPP, -EOPNOTSUPP, 1 << 19, 1 << 19, 700}), 0);
  ASSERT_EQ(loop_.steps.size(), 7U);
  EXPECT_EQ(loop_.steps[0].mode, kPunch);
  EXPECT_EQ(loop_.steps[1].mode, kZero);
  EXPECT_EQ(loop_.steps[2].mode, kPunch);
  EXPECT_EQ(loop_.steps[3].mode, kZero);
  EXPECT_EQ(loop_.steps[4].length, 1U << 20);
  EXPECT_EQ(loop_.steps[5].offset, 512U + (1 << 19));
  EXPECT_EQ(loop_.steps[5].length, (1U << 19) + 700);
  EXPECT_EQ(loop_.steps[6].length, 700U);
}

TEST_F(DiskOperationTest, OperationsAreUsedAgain) {
  auto& first = operations_.take();
  first.start(7, loop_, read_, outcome_);
  EXPECT_EQ(answers({3072}), 0);
  auto& second = operations_.take();
  EXPECT_EQ(&first, &second);
  operations_.give_back(second);
}

}  // namespace
}  // namespace vmm::backend
