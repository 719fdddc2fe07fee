// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/virtio/virtio_pci_guest.h"

namespace vmm::virtio {
namespace {

// The BAR by way of configuration space (4.1.4.9).
class VirtioPciWindowTest : public VirtioPciTest {
 protected:
  void point(uint8_t bar, uint32_t offset, uint32_t length) {
    set_config<uint8_t>(at_ + 4, bar);
    set_config<uint32_t>(at_ + 8, offset);
    set_config<uint32_t>(at_ + 12, length);
  }
  const uint32_t at_ = vendor_.at(VIRTIO_PCI_CAP_PCI_CFG);
  const uint32_t data_ = at_ + 16;
};

TEST_F(VirtioPciWindowTest, ReadsAndWritesRegisters) {
  set_config<uint16_t>(pci::kCommand, 0);  // works with decoding off
  point(0, VIRTIO_PCI_COMMON_NUMQ, 2);
  EXPECT_EQ(config<uint16_t>(data_), 2);
  point(0, VIRTIO_PCI_COMMON_STATUS, 1);
  set_config<uint8_t>(data_, kFound);
  EXPECT_EQ(config<uint8_t>(data_), kFound);
  point(0, PciTransport::kDevice, 4);
  set_config<uint32_t>(data_, 0xcafe1234U);
  point(0, PciTransport::kDevice + 2, 2);
  EXPECT_EQ(config<uint16_t>(data_), 0xcafe);
  decode();
  EXPECT_EQ(status(), kFound);
}

// A read of the data register is an access to the BAR then: it must come as an exit.
TEST_F(VirtioPciWindowTest, EndsThePageThatIsReadWithoutExits) {
  const uint64_t page = kEcam + 0x8000;
  ASSERT_TRUE(pages_.has(page));
  point(0, 0, 3);
  EXPECT_TRUE(pages_.has(page)) << "no access yet: three bytes are none";
  point(0, VIRTIO_PCI_COMMON_NUMQ, 2);
  EXPECT_FALSE(pages_.has(page));
  EXPECT_EQ(config<uint16_t>(data_), 2);
}

TEST_F(VirtioPciWindowTest, NotifiesAndResets) {
  start();
  ring_.add({ring_.readable("x")});
  point(2, 0, 2);
  set_config<uint16_t>(data_, 0);
  EXPECT_TRUE(wait_until([this] { return ring_.take_used().has_value(); }));
  point(0, VIRTIO_PCI_COMMON_STATUS, 1);
  set_config<uint8_t>(data_, 0);
  EXPECT_EQ(status(), 0U);
  EXPECT_EQ(device_.stops, 1);
}

// HG34: a window that lies.
TEST_F(VirtioPciWindowTest, LiesReachNothing) {
  start();
  struct Lie {
    uint8_t bar;
    uint32_t offset;
    uint32_t length;
  };
  const Lie lies[] = {{7, 0, 4},          {1, 0, 4},           {6, VIRTIO_PCI_COMMON_STATUS, 1},
                      {0, 0xffffffff, 1}, {0, 0xfffffffc, 4},  {0, 0x8000, 4},
                      {0, 20, 0},         {0, 20, 3},          {0, 20, 8},
                      {0, 20, 64},        {0, 20, 0xffffffff}, {0, 18, 4},
                      {2, 8, 4},          {2, 0xfffffffc, 4},  {2, 2, 4}};
  for (const auto& lie : lies) {
    point(lie.bar, lie.offset, lie.length);
    set_config<uint32_t>(data_, 0);
    EXPECT_EQ(config<uint32_t>(data_), 0U) << "the data register is only a register";
    EXPECT_EQ(status(), kRunning);
  }
  for (const auto& [bar, offset] : {std::pair{0, 0x7ffc}, std::pair{2, 4}}) {
    point(static_cast<uint8_t>(bar), static_cast<uint32_t>(offset), 4);
    EXPECT_EQ(config<uint32_t>(data_), ~0U) << "inside the BAR, but nothing is there";
  }
  EXPECT_TRUE(works());
}

}  // namespace
}  // namespace vmm::virtio
