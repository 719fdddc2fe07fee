// SPDX-License-Identifier: Apache-2.0
//
// Where random bytes come from.
#pragma once

#include <cstddef>
#include <span>

namespace vmm::backend {

class Entropy {
 public:
  virtual ~Entropy() = default;
  // Fills all of `bytes`, fit for keys. Any thread. Does not wait.
  virtual void fill(std::span<std::byte> bytes) = 0;
};

// The host's generator, getrandom(2). It is seeded long before a VMM can run.
class HostEntropy final : public Entropy {
 public:
  void fill(std::span<std::byte> bytes) override;
};

}  // namespace vmm::backend
