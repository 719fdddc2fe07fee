// SPDX-License-Identifier: Apache-2.0
//
// Pages of a device that the guest reads as memory, without an exit. Its writes still come to the device, as
// exits. Calls are safe from any thread and are leaves: they take no lock of the caller's.
#pragma once

#include <cstddef>
#include <span>

#include "vmm/core/result.h"
#include "vmm/core/types.h"

namespace vmm {

class ReadablePages {
 public:
  struct Place {
    Gpa base;
    std::span<std::byte> pages;
  };

  virtual ~ReadablePages() = default;
  // From now on reads at `base` see `pages`, whole 4 KiB pages on both sides, which stay where they are until
  // hide(). Fails where the host cannot do that: then every read is an exit, as without this call.
  virtual Result<void> show(Gpa base, std::span<std::byte> pages) = 0;
  // When it returns, no vCPU reads the pages at `base` any more.
  virtual void hide(Gpa base) = 0;
};

}  // namespace vmm
