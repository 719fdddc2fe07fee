// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/token_bucket.h"

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

using namespace std::chrono_literals;

// The clock is the test's.
TEST(TokenBucketTest, ASecondsWorthAtOnceAndThenTheRate) {
  TokenBucket bucket{1000};
  TokenBucket::Clock::time_point now{1h};
  uint64_t taken = 0;
  const auto take_all = [&] {
    while (bucket.delay(now).count() == 0) {
      bucket.take(10, now);
      taken += 10;
    }
  };
  take_all();
  EXPECT_EQ(taken, 1000U);
  for (int i = 0; i < 100; ++i) {
    now += 100ms;
    take_all();
  }
  EXPECT_NEAR(static_cast<double>(taken), 1000 + 10 * 1000, 10);
}

TEST(TokenBucketTest, DelayIsExact) {
  TokenBucket bucket{4};
  TokenBucket::Clock::time_point now{1h};
  for (int i = 0; i < 4; ++i) bucket.take(1, now);
  const auto delay = bucket.delay(now);
  EXPECT_GT(delay, 0ns);
  EXPECT_EQ(bucket.delay(now + delay - 1ns), 1ns);
  EXPECT_EQ(bucket.delay(now + delay), 0ns);
}

TEST(TokenBucketTest, OverdraftIsPaid) {
  TokenBucket bucket{1 << 20};
  TokenBucket::Clock::time_point now{1h};
  bucket.take(1ULL << 32, now);  // 4096 seconds' worth, of which one was there
  EXPECT_GT(bucket.delay(now + 4094s), 0ns);
  EXPECT_EQ(bucket.delay(now + 4096s), 0ns);
}

TEST(TokenBucketTest, IdleTimeIsNotSavedUp) {
  TokenBucket bucket{100};
  TokenBucket::Clock::time_point now{1h};
  bucket.take(100, now);
  now += 24h;
  uint64_t taken = 0;
  while (bucket.delay(now).count() == 0) {
    bucket.take(1, now);
    ++taken;
  }
  EXPECT_EQ(taken, 100U);
}

TEST(TokenBucketTest, ExtremesDoNotOverflow) {
  TokenBucket::Clock::time_point now{1h};
  TokenBucket slow{1};
  slow.take(1ULL << 32, now);
  EXPECT_GT(slow.delay(now), std::chrono::hours{24 * 365 * 100});
  TokenBucket fast{~0ULL};
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(fast.delay(now), 0ns);
    fast.take(1ULL << 32, now);
  }
}

TEST(TokenBucketTest, ZeroIsNoLimit) {
  TokenBucket bucket{0};
  const TokenBucket::Clock::time_point now{};
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(bucket.delay(now), 0ns);
    bucket.take(1ULL << 32, now);
  }
}

}  // namespace
}  // namespace vmm::backend
