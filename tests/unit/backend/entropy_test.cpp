// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/entropy.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace vmm::backend {
namespace {

TEST(EntropyTest, FillsEverything) {
  HostEntropy entropy;
  entropy.fill({});
  std::vector<std::byte> bytes(100'000);
  entropy.fill(bytes);
  // Sixteen zeros in a row come once in 2^128.
  EXPECT_EQ(std::search_n(bytes.begin(), bytes.end(), 16, std::byte{0}), bytes.end());
}

}  // namespace
}  // namespace vmm::backend
