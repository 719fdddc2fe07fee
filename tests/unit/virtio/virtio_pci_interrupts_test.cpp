// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/virtio/virtio_pci_guest.h"

namespace vmm::virtio {
namespace {

TEST_F(VirtioPciTest, DeliversByMsix) {
  enable_msix(true);
  program_msix(0, 0x30);
  program_msix(2, 0x32);
  set_bar(VIRTIO_PCI_COMMON_MSIX, uint16_t{0});
  negotiate();
  set_up_queue(0);
  set_bar(VIRTIO_PCI_COMMON_Q_MSIX, uint16_t{2});
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_MSIX), 2);
  set_status(kRunning);
  EXPECT_TRUE(works());
  EXPECT_TRUE(wait_until([this] { return msi_.was_delivered({.address = kApic, .data = 0x32}); }));
  EXPECT_FALSE(msi_.was_delivered({.address = kApic, .data = 0x30}));
  loop_->call([this] { device_.driver_->notify_config(); });
  EXPECT_TRUE(msi_.was_delivered({.address = kApic, .data = 0x30}));
  for (const auto& line : lines_) EXPECT_EQ(line.changes, 0);
}

TEST_F(VirtioPciTest, DeliversByIntx) {
  start();
  EXPECT_TRUE(works());
  auto& line = lines_[1];
  EXPECT_TRUE(wait_until([&] { return line.level.load(); }));
  EXPECT_EQ(config<uint16_t>(pci::kStatus) & pci::kStatusInterrupt, pci::kStatusInterrupt);
  EXPECT_EQ(bar<uint8_t>(PciTransport::kIsr), 1);
  EXPECT_FALSE(line.level) << "reading the status lowers the line";
  EXPECT_EQ(bar<uint8_t>(PciTransport::kIsr), 0);
  const auto generation = bar<uint8_t>(VIRTIO_PCI_COMMON_CFGGENERATION);
  loop_->call([this] { device_.driver_->notify_config(); });
  EXPECT_TRUE(line.level);
  EXPECT_NE(bar<uint8_t>(VIRTIO_PCI_COMMON_CFGGENERATION), generation);
  ring_.set_used_event(ring_.used_index());
  EXPECT_TRUE(works());
  settle();
  set_bar(PciTransport::kIsr, uint8_t{0});
  EXPECT_EQ(bar<uint8_t>(PciTransport::kIsr), 3);
  EXPECT_EQ(config<uint16_t>(pci::kStatus) & pci::kStatusInterrupt, 0);
}

TEST_F(VirtioPciTest, NoVectorMeansNoInterrupt) {
  enable_msix(true);
  program_msix(0, 0x30);
  start();
  EXPECT_TRUE(works());
  loop_->call([this] { device_.driver_->notify_config(); });
  EXPECT_TRUE(msi_.delivered.empty());
  EXPECT_FALSE(lines_[1].level);
}

// HG32: a vector that the table does not have.
TEST_F(VirtioPciTest, BadVectorsReadBackAsNone) {
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
  for (const uint16_t bad : std::to_array<uint16_t>({3, 0x7fff, 0xfffe, 0xffff})) {
    set_bar(VIRTIO_PCI_COMMON_MSIX, uint16_t{1});
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_MSIX), 1);
    set_bar(VIRTIO_PCI_COMMON_MSIX, bad);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
    set_bar(VIRTIO_PCI_COMMON_Q_MSIX, bad);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
  }
}

// A queue that somebody else works: the interrupts go past us while the vector that its driver chose is open.
TEST_F(VirtioPciTest, RingsOfAnOutsiderBecomeMessages) {
  const auto bell = EventFd::create().value();
  device_.outsider = &bell;
  program_msix(0, 0x40);
  program_msix(1, 0x41);
  enable_msix(true);
  set_bar(VIRTIO_PCI_COMMON_Q_SELECT, uint16_t{0});
  set_bar(VIRTIO_PCI_COMMON_Q_MSIX, uint16_t{1});
  start();
  ASSERT_TRUE(wait_until([&] { return msi_.has(bell); }));
  EXPECT_EQ(msi_.connected.at(&bell).data, 0x41U);
  set_bar(VIRTIO_PCI_COMMON_Q_MSIX, uint16_t{0});
  ASSERT_TRUE(msi_.has(bell));
  EXPECT_EQ(msi_.connected.at(&bell).data, 0x40U);

  // While nobody takes its rings they come by way of the loop: pending behind a mask, dropped without a
  // vector, or as INTx.
  set_bar(PciTransport::kMsixTable + 12, uint32_t{1});
  EXPECT_FALSE(msi_.has(bell));
  bell.signal();
  ASSERT_TRUE(wait_until([&] { return bar<uint32_t>(PciTransport::kMsixPending) == 1; }));
  set_bar(PciTransport::kMsixTable + 12, uint32_t{0});
  EXPECT_TRUE(msi_.was_delivered({.address = kApic, .data = 0x40}));
  EXPECT_TRUE(msi_.has(bell));
  set_bar(VIRTIO_PCI_COMMON_Q_MSIX, uint16_t{0xffff});
  EXPECT_FALSE(msi_.has(bell));
  set_bar(VIRTIO_PCI_COMMON_Q_MSIX, uint16_t{0});
  enable_msix(false);
  EXPECT_FALSE(msi_.has(bell));
  bell.signal();
  EXPECT_TRUE(wait_until([&] { return bar<uint8_t>(PciTransport::kIsr) == 1; }));

  enable_msix(true);
  EXPECT_TRUE(msi_.has(bell));
  transport_->reset();
  EXPECT_FALSE(msi_.has(bell));
}

// HG32: through the BAR, behind the last entry and the last pending bit.
TEST_F(VirtioPciTest, MsixPagesHaveEnds) {
  constexpr uint64_t kBehind = PciTransport::kMsixTable + uint64_t{3} * 16;
  set_bar(kBehind, ~0U);
  EXPECT_EQ(bar<uint32_t>(kBehind), 0U);
  EXPECT_EQ(bar<uint64_t>(PciTransport::kMsixTable + 0xff8), 0U);
  enable_msix(true);
  set_bar(VIRTIO_PCI_COMMON_MSIX, uint16_t{1});
  start();
  loop_->call([this] { device_.driver_->notify_config(); });
  EXPECT_EQ(bar<uint64_t>(PciTransport::kMsixPending), 2U) << "masked since power-on, so it waits";
  set_bar(PciTransport::kMsixPending, uint64_t{0});
  EXPECT_EQ(bar<uint64_t>(PciTransport::kMsixPending), 2U);
  EXPECT_EQ(bar<uint32_t>(0x6000), ~0U) << "an empty page";
}

}  // namespace
}  // namespace vmm::virtio
