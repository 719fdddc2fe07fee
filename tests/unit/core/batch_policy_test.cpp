// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/batch_policy.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

// How many of so many sleeps are under SCHED_BATCH, if each comes after so many requests.
int batched(BatchPolicy& policy, int sleeps, unsigned requests) {
  int count = 0;
  for (int i = 0; i < sleeps; ++i) count += policy.sleeps_after(requests) ? 1 : 0;
  return count;
}

TEST(BatchPolicy, OneAtATimeIsAnsweredAtOnce) {
  for (const unsigned requests : {1U, 2U, 4U}) {
    BatchPolicy policy;
    const int count = batched(policy, 10'000, requests);
    EXPECT_GT(count, 0) << "it is never tried";
    EXPECT_LT(count, 10'000 / 8) << requests;
  }
}

TEST(BatchPolicy, ManyTogetherWaitForEachOther) {
  BatchPolicy policy;
  EXPECT_GT(batched(policy, 10'000, 6), 9'000);
}

// A stream's answers come alone, between its batches.
TEST(BatchPolicy, TheMeanDecides) {
  BatchPolicy policy;
  batched(policy, 1'000, 6);
  int count = 0;
  for (int i = 0; i < 100; ++i) count += batched(policy, 1, 10) + batched(policy, 1, 2);
  EXPECT_EQ(count, 200);
}

TEST(BatchPolicy, WhatChangesIsFollowed) {
  BatchPolicy policy;
  ASSERT_GT(batched(policy, 10'000, 32), 9'000);
  EXPECT_LT(batched(policy, 100, 1), 40);
  EXPECT_GT(batched(policy, 1'000, 32), 700);
}

TEST(BatchPolicy, SleepsForOtherReasonsDoNotCount) {
  BatchPolicy policy;
  EXPECT_EQ(batched(policy, 10'000, 0), 0);
  ASSERT_GT(batched(policy, 1'000, 6), 700);
  EXPECT_EQ(batched(policy, 10'000, 0), 10'000);
}

}  // namespace
}  // namespace vmm
