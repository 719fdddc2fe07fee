// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/rng.h"

#include <gtest/gtest.h>

#include "tests/unit/loop_thread.h"
#include "tests/unit/virtio/fake_driver.h"

namespace vmm::virtio {
namespace {

class CountingEntropy final : public backend::Entropy {
 public:
  void fill(std::span<std::byte> bytes) override {
    for (auto& byte : bytes) byte = std::byte{++next_};
  }

 private:
  uint8_t next_ = 0;
};

class RngTest : public testing::Test {
 protected:
  LoopThread loop_;
  GuestMemory memory_ = make_test_memory();
  CountingEntropy entropy_;
  Rng rng_{*loop_, entropy_, "rng0"};
  FakeDriver driver_{rng_, memory_};
};

TEST_F(RngTest, FillsBuffers) {
  driver_.start();
  const auto first = driver_.ring(0).writable(3);
  const auto second = driver_.ring(0).writable(2);
  EXPECT_EQ(driver_.request(0, {first, second}).length, 5U);
  EXPECT_EQ(driver_.ring(0).bytes_at(first.address, 3), "\1\2\3");
  EXPECT_EQ(driver_.ring(0).bytes_at(second.address, 2), "\4\5");
  EXPECT_EQ(rng_.bytes(), 5U);
}

// HG52
TEST_F(RngTest, HugeRequestsGetALittle) {
  driver_.start();
  const FakeRing::Buffer all{Gpa{0x80000}, 0x40000, true};
  const std::vector overlapping(64, all);
  EXPECT_EQ(driver_.request(0, overlapping).length, Rng::kMostBytes);
  EXPECT_EQ(driver_.ring(0).bytes_at(Gpa{all.address.raw + Rng::kMostBytes}, 1), std::string(1, '\0'));
}

TEST_F(RngTest, ManyRequests) {
  driver_.start();
  const auto buffer = driver_.ring(0).writable(64);
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 64; ++i) driver_.ring(0).add({buffer});
    driver_.notify(0);
    for (int i = 0; i < 64; ++i) ASSERT_EQ(driver_.wait_used(0).length, 64U);
  }
  EXPECT_FALSE(driver_.needs_reset());
}

TEST_F(RngTest, NothingToFillNeedsReset) {
  driver_.start();
  driver_.ring(0).add({driver_.ring(0).readable("x")});
  driver_.notify(0);
  EXPECT_TRUE(driver_.wait_needs_reset());
  driver_.core->set_status(0);
  driver_.start();
  EXPECT_EQ(driver_.request(0, {driver_.ring(0).writable(8)}).length, 8U);
}

}  // namespace
}  // namespace vmm::virtio
