// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/intx.h"

#include <gtest/gtest.h>

#include "tests/unit/pci/fakes.h"

namespace vmm::pci {
namespace {

TEST(Intx, SlotsTakeTurnsOnFourInputs) {
  EXPECT_EQ(intx_gsi(1).raw, 17U);
  EXPECT_EQ(intx_gsi(3).raw, 19U);
  EXPECT_EQ(intx_gsi(4).raw, 16U);
  EXPECT_EQ(intx_gsi(31).raw, 19U);
}

TEST(Intx, LevelFollowsPendingAndEnabled) {
  FakeIrqLine line;
  IntxWire wire{line};
  IntxPin pin{wire};
  pin.set_pending(true);
  EXPECT_TRUE(line.level);
  pin.set_pending(true);
  EXPECT_EQ(line.changes, 1);
  pin.set_enabled(false);
  EXPECT_FALSE(line.level);
  EXPECT_TRUE(pin.pending());
  pin.set_enabled(true);
  EXPECT_TRUE(line.level);
  pin.set_pending(false);
  EXPECT_FALSE(line.level);
}

// Two functions on a wire: the one that is served first must not silence the other.
TEST(Intx, WireIsHighWhileAnyoneDrivesIt) {
  FakeIrqLine line;
  IntxWire wire{line};
  IntxPin a{wire};
  {
    IntxPin b{wire};
    a.set_pending(true);
    b.set_pending(true);
    a.set_pending(false);
    EXPECT_TRUE(line.level);
  }
  EXPECT_FALSE(line.level) << "a pin that goes lets go of its wire";
}

}  // namespace
}  // namespace vmm::pci
