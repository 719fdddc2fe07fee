// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "tests/unit/virtio/virtio_pci_guest.h"

namespace vmm::virtio {
namespace {

TEST_F(VirtioPciTest, IsFoundByItsIdentity) {
  EXPECT_EQ(config<uint32_t>(0x00), 0x10441af4U);
  EXPECT_EQ(config<uint8_t>(0x08), 1) << "revision: not transitional";
  EXPECT_EQ(config<uint32_t>(0x08) >> 8, 0x00ff00U);
  EXPECT_EQ(config<uint16_t>(0x2c), 0x1af4);
  EXPECT_EQ(config<uint32_t>(0x10), kWindow | 4);
  EXPECT_EQ(config<uint32_t>(0x18), kPorts | 1);
  EXPECT_EQ(transport_->device_number(), 1);
}

TEST_F(VirtioPciTest, CapabilitiesSayWhereThingsAre) {
  const auto place = [this](uint8_t type) {
    const uint32_t at = vendor_.at(type);
    return std::tuple{int{config<uint8_t>(at + 4)}, config<uint32_t>(at + 8), config<uint32_t>(at + 12)};
  };
  EXPECT_EQ(place(VIRTIO_PCI_CAP_COMMON_CFG), (std::tuple{0, 0x0000U, 56U}));
  EXPECT_EQ(place(VIRTIO_PCI_CAP_ISR_CFG), (std::tuple{0, 0x1000U, 1U}));
  EXPECT_EQ(place(VIRTIO_PCI_CAP_DEVICE_CFG), (std::tuple{0, 0x2000U, 12U}));
  EXPECT_EQ(place(VIRTIO_PCI_CAP_NOTIFY_CFG), (std::tuple{2, 0U, 8U}));
  EXPECT_EQ(config<uint8_t>(vendor_.at(VIRTIO_PCI_CAP_COMMON_CFG) + 2), 16);
  EXPECT_EQ(config<uint8_t>(vendor_.at(VIRTIO_PCI_CAP_NOTIFY_CFG) + 2), 20);
  EXPECT_EQ(config<uint32_t>(vendor_.at(VIRTIO_PCI_CAP_NOTIFY_CFG) + 16), 4U);
  EXPECT_EQ(config<uint8_t>(vendor_.at(VIRTIO_PCI_CAP_PCI_CFG) + 2), 20);
  EXPECT_EQ(config<uint16_t>(msix_ + 2), 2) << "two queues and the configuration: three vectors";
  EXPECT_EQ(config<uint32_t>(msix_ + 4), 0x3000U);
  EXPECT_EQ(config<uint32_t>(msix_ + 8), 0x4000U);
}

// HG22: all per-queue registers of queues that do not exist.
TEST_F(VirtioPciTest, UnknownQueueReadsAsAbsent) {
  for (const uint16_t queue : std::to_array<uint16_t>({2, 0x8000, 0xffff})) {
    set_bar(VIRTIO_PCI_COMMON_Q_SELECT, queue);
    for (uint64_t at = VIRTIO_PCI_COMMON_Q_SIZE; at < 32; at += 2) set_bar(at, uint16_t{1});
    for (uint64_t at = 32; at < 56; at += 4) set_bar(at, 0x1000U);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_SELECT), queue);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_SIZE), 0);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_ENABLE), 0);
    EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_NOFF), 0);
    for (uint64_t at = 32; at < 56; at += 4) EXPECT_EQ(bar<uint32_t>(at), 0U);
  }
  set_bar(VIRTIO_PCI_COMMON_Q_SELECT, uint16_t{1});
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_SIZE), 8);
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_NOFF), 1);
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_NUMQ), 2);
}

TEST_F(VirtioPciTest, SixtyFourBitFieldsTakeHalvesAndWholes) {
  for (const uint64_t field : {32U, 40U, 48U}) {
    set_bar(field, 0x1122334455667788U);
    EXPECT_EQ(bar<uint32_t>(field), 0x55667788U);
    EXPECT_EQ(bar<uint32_t>(field + 4), 0x11223344U);
    set_bar(field + 4, 0xaabbccddU);
    EXPECT_EQ(bar<uint64_t>(field), 0xaabbccdd55667788U);
  }
  EXPECT_EQ(bar<uint64_t>(36), ~0ULL) << "a half and its neighbour";
  EXPECT_EQ(bar<uint64_t>(0), ~0ULL);
}

// HG30, HG31: an access that is not a field in its width finds nothing and changes nothing.
TEST_F(VirtioPciTest, FieldsHaveTheirWidths) {
  set_bar(VIRTIO_PCI_COMMON_Q_SIZE, uint16_t{8});
  set_bar(VIRTIO_PCI_COMMON_Q_SIZE, uint8_t{4});
  set_bar(VIRTIO_PCI_COMMON_Q_SELECT, uint32_t{0x00040001});
  set_bar(VIRTIO_PCI_COMMON_Q_SIZE + 1, uint16_t{4});
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_SIZE), 8);
  EXPECT_EQ(bar<uint8_t>(VIRTIO_PCI_COMMON_Q_SIZE), 0xff);
  EXPECT_EQ(bar<uint32_t>(VIRTIO_PCI_COMMON_MSIX), ~0U);
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_STATUS), 0xffff);
  EXPECT_EQ(bar<uint32_t>(56), ~0U);
  EXPECT_EQ(bar<uint32_t>(0xffc), ~0U);
}

TEST_F(VirtioPciTest, DeviceConfigurationHasAnEnd) {
  set_bar(PciTransport::kDevice + 8, 0x12345678U);
  EXPECT_EQ(bar<uint32_t>(PciTransport::kDevice + 8), 0x12345678U);
  EXPECT_EQ(bar<uint8_t>(PciTransport::kDevice + 11), 0x12);
  EXPECT_EQ(bar<uint64_t>(PciTransport::kDevice + 8), ~0ULL) << "leaves it";
  EXPECT_EQ(bar<uint32_t>(PciTransport::kDevice + 12), ~0U);
  set_bar(PciTransport::kDevice + 10, ~0U);
  EXPECT_EQ(bar<uint32_t>(PciTransport::kDevice + 8), 0x12345678U);
}

// HG20, HG21: nothing of a queue changes after DRIVER_OK.
TEST_F(VirtioPciTest, QueueIsFrozenWhileRunning) {
  start();
  std::array<uint32_t, 6> before{};
  for (size_t i = 0; i < 6; ++i) before[i] = bar<uint32_t>(32 + 4 * i);
  set_bar(VIRTIO_PCI_COMMON_Q_SIZE, uint16_t{8});
  set_bar(VIRTIO_PCI_COMMON_Q_ENABLE, uint16_t{0});
  for (size_t i = 0; i < 6; ++i) set_bar(32 + 4 * i, 0xdead0000U);
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_SIZE), 16);
  EXPECT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_ENABLE), 1);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(bar<uint32_t>(32 + 4 * i), before[i]);
  EXPECT_TRUE(works());
}

// A driver that wrote to one of these and then only waits must not wait for nothing.
TEST_F(VirtioPciTest, WhatActsDoesNotWait) {
  const auto may_wait = [&](uint64_t offset) {
    return std::ranges::any_of(doorbells_.coalesced, [&](const auto& range) {
      return base_ + offset >= range.first && base_ + offset < range.first + range.second;
    });
  };
  for (const uint64_t at : {uint64_t{VIRTIO_PCI_COMMON_STATUS}, PciTransport::kDevice,
                            PciTransport::kMsixTable, PciTransport::kMsixTable + 12})
    EXPECT_FALSE(may_wait(at)) << at;
  for (const auto at : {VIRTIO_PCI_COMMON_GF, VIRTIO_PCI_COMMON_Q_SELECT, VIRTIO_PCI_COMMON_Q_USEDHI})
    EXPECT_TRUE(may_wait(static_cast<uint64_t>(at))) << at;
  set_config<uint32_t>(0x10, 0xd0000000U);
  base_ = 0xd0000000;
  EXPECT_TRUE(may_wait(VIRTIO_PCI_COMMON_Q_SELECT)) << "they follow the BAR";
  set_config<uint16_t>(pci::kCommand, 0);
  EXPECT_TRUE(doorbells_.coalesced.empty());
  EXPECT_EQ(doorbells_.unknown, 0);
  base_ = kWindow;
}

TEST_F(VirtioPciTest, DoorbellsAreBoundWhileTheDriverRuns) {
  EXPECT_TRUE(doorbells_.bound.empty());
  set_config<uint16_t>(pci::kCommand, 0);
  decode();
  EXPECT_TRUE(doorbells_.bound.empty());
  start();
  ASSERT_EQ(doorbells_.bound.size(), 2U);
  EXPECT_EQ(doorbells_.bound[1].first.address, kPorts + 4);
  EXPECT_EQ(doorbells_.bound[1].first.space, DoorbellAddress::Space::port);
  EXPECT_EQ(doorbells_.bound[1].first.length, 0U) << "any width";
  set_status(0);
  EXPECT_EQ(status(), 0U);
  EXPECT_TRUE(doorbells_.bound.empty());
  start();
  EXPECT_TRUE(works());
  EXPECT_EQ(doorbells_.unknown, 0);
}

// HG35: the BARs move, and decoding is switched, while the device works.
TEST_F(VirtioPciTest, BarsMoveWhileRunning) {
  start();
  EXPECT_TRUE(works());
  set_config<uint32_t>(0x10, 0xd0000000U);
  base_ = 0xd0000000;
  EXPECT_EQ(status(), kRunning);
  EXPECT_TRUE(works());
  set_config<uint32_t>(0x10, 0xfee00000U);
  EXPECT_EQ(bus_read<uint32_t>(mmio_, 0xfee00000), ~0U);
  set_config<uint32_t>(0x10, 0xd0000000U);
  set_config<uint32_t>(0x18, 0xc800U);
  ports_base_ = 0xc800;
  EXPECT_EQ(doorbells_.bound[0].first.address, 0xc800U);
  EXPECT_TRUE(works());
  for (const uint32_t elsewhere : {0x3f8U, 0xcf8U, 0x600U, 0xfffffff8U, 0x1c800U}) {
    set_config<uint32_t>(0x18, elsewhere);
    EXPECT_TRUE(doorbells_.bound.empty()) << elsewhere;
  }
  set_config<uint32_t>(0x18, 0xc800U);
  for (int i = 0; i < 1000; ++i) {
    set_config<uint16_t>(pci::kCommand, i % 2 == 0 ? 0 : pci::kCommandMemory);
    decode();
  }
  EXPECT_TRUE(works());
  EXPECT_EQ(doorbells_.bound.size(), 2U);
}

TEST_F(VirtioPciTest, RefusedDoorbellsRingThroughTheDevice) {
  doorbells_.refuse = true;
  start();
  EXPECT_TRUE(doorbells_.bound.empty());
  EXPECT_TRUE(works());
}

// HG23: every doorbell address, in all widths, before DRIVER_OK, for a disabled queue, after a reset.
TEST_F(VirtioPciTest, StrayDoorbells) {
  const auto storm = [this] {
    for (uint64_t at = 0; at < 0x100; ++at) {
      write_doorbell(at, uint8_t{0});
      write_doorbell(at, uint16_t{0xffff});
      write_doorbell(at, uint32_t{1});
    }
    settle();
  };
  storm();
  EXPECT_EQ(device_.handled, 0);
  start();
  EXPECT_TRUE(works());
  storm();
  EXPECT_TRUE(works());
  set_status(0);
  const int handled = device_.handled;
  storm();
  EXPECT_EQ(device_.handled, handled);
  EXPECT_EQ(bus_read<uint32_t>(ports_, kPorts), ~0U);
}

TEST_F(VirtioPciTest, BrokenRingNeedsResetAndComesBack) {
  start();
  ring_.offer(999);
  ring_doorbell(0);
  ASSERT_TRUE(wait_until([this] { return (status() & VIRTIO_CONFIG_S_NEEDS_RESET) != 0; }));
  EXPECT_TRUE(wait_until([this] { return lines_[1].level.load(); }));
  set_status(0);
  EXPECT_FALSE(lines_[1].level);
  EXPECT_EQ(bar<uint8_t>(PciTransport::kIsr), 0);
  start();
  EXPECT_TRUE(works());
}

// HG28: reset from any state, many times.
TEST_F(VirtioPciTest, ResetsAtAnyTime) {
  enable_msix(true);
  for (int i = 0; i < 300; ++i) {
    set_bar(VIRTIO_PCI_COMMON_MSIX, uint16_t{0});
    start();
    set_bar(VIRTIO_PCI_COMMON_Q_MSIX, uint16_t{1});
    if (i % 3 == 0) {
      EXPECT_TRUE(works());
    }
    if (i % 3 == 1) ring_doorbell(0);
    set_status(0);
    ASSERT_EQ(status(), 0U);
    ASSERT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
    ASSERT_EQ(bar<uint16_t>(VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
  }
  EXPECT_EQ(device_.starts, device_.stops);
  EXPECT_TRUE(doorbells_.bound.empty());
}

TEST_F(VirtioPciTest, MachineResetIsPowerOn) {
  enable_msix(true);
  start();
  set_config<uint32_t>(0x10, 0xd0000000U);
  device_.hold = true;
  ring_.add({ring_.readable("x")});
  base_ = 0xd0000000;
  ring_doorbell(0);
  EXPECT_TRUE(wait_until([this] { return device_.held == 1; }));
  device_.hold = false;
  root_->reset();
  base_ = kWindow;
  decode();
  EXPECT_EQ(status(), 0U);
  EXPECT_FALSE(device_.running);
  EXPECT_EQ(config<uint16_t>(msix_ + 2), 2);
  EXPECT_TRUE(doorbells_.bound.empty());
  start();
  EXPECT_TRUE(works());
}

// HG31: two vCPUs write anything anywhere, a third moves the BAR; afterwards a reset brings the device back.
TEST_F(VirtioPciTest, Scribbling) {
  std::vector<std::jthread> threads;
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    threads.emplace_back([this, seed] {
      std::minstd_rand random{seed};
      for (int i = 0; i < 20000; ++i) {
        const auto page = static_cast<uint64_t>(random() % 8) * 0x1000;
        const uint64_t at = kWindow + page + random() % (i % 2 == 0 ? 64 : 0x1000);
        const auto value = static_cast<uint64_t>(random());
        switch (random() % 5) {
          case 0:
            bus_write<uint8_t>(mmio_, at, static_cast<uint8_t>(value));
            break;
          case 1:
            bus_write<uint16_t>(mmio_, at, static_cast<uint16_t>(value));
            break;
          case 2:
            bus_write<uint32_t>(mmio_, at & ~3ULL, static_cast<uint32_t>(value));
            break;
          case 3:
            bus_write<uint64_t>(mmio_, at & ~7ULL, value << (value % 32));
            break;
          default:
            static_cast<void>(bus_read<uint32_t>(mmio_, at));
            break;
        }
        if (i % 100 == 0) bus_write<uint8_t>(mmio_, kWindow + VIRTIO_PCI_COMMON_STATUS, 0);
      }
    });
  }
  threads.emplace_back([this] {
    std::minstd_rand random{3};
    for (int i = 0; i < 5000; ++i) {
      set_config<uint8_t>(random() % 256, static_cast<uint8_t>(random()));
      if (i % 16 == 0) set_config<uint32_t>(0x10, static_cast<uint32_t>(kWindow));
      if (i % 16 == 0) set_config<uint32_t>(0x14, 0U);
      if (i % 16 == 0) decode();
    }
  });
  threads.clear();
  root_->reset();
  decode();
  start();
  EXPECT_TRUE(works());
  EXPECT_EQ(doorbells_.unknown, 0);
}

// A device without configuration, such as an entropy source, has no capability for one.
TEST(VirtioPci, NoConfigurationNoCapability) {
  class Bare final : public Device {
   public:
    explicit Bare(EventLoop& loop) : loop_(loop) {}
    uint16_t type() const override { return 4; }
    std::string_view name() const override { return "bare"; }
    uint64_t features() const override { return 0; }
    std::span<const uint16_t> queue_sizes() const override { return sizes_; }
    size_t config_size() const override { return 0; }
    void read_config(size_t /*offset*/, std::span<std::byte> /*out*/) override { FAIL(); }
    void write_config(size_t /*offset*/, std::span<const std::byte> /*in*/) override { FAIL(); }
    EventLoop& loop() override { return loop_; }
    void start(uint64_t /*features*/, std::span<Queue> /*queues*/, Driver& /*driver*/) override {}
    void handle_queue(uint16_t /*index*/) override {}
    void stop(std::function<void()> done) override { done(); }

   private:
    EventLoop& loop_;
    std::array<uint16_t, 1> sizes_{8};
  };
  Bus ports;
  Bus mmio;
  pci::FakeDoorbells doorbells;
  pci::FakePages pages;
  const auto config_memory = pci::ConfigMemory::create(Gpa{kEcam}).value();
  pci::FakeMsiSink msi;
  pci::FakeIrqLine line;
  LoopThread loop;
  const GuestMemory memory = make_test_memory();
  auto root = std::move(*pci::RootBus::create(ports, mmio, doorbells,
                                              {.ecam = config_memory,
                                               .readable = pages,
                                               .memory = {.base = kWindow, .size = 0x20000000},
                                               .ports = {.base = kPorts, .size = 0x4000},
                                               .intx = {&line, &line, &line, &line}}));
  Bare device{*loop};
  const auto transport = std::move(*PciTransport::create(device, memory, *root, msi));
  int found = 0;
  const uint64_t config = kEcam + 0x8000;
  for (uint32_t at = bus_read<uint8_t>(mmio, config + 0x34); at != 0;
       at = bus_read<uint8_t>(mmio, config + at + 1)) {
    ++found;
    if (bus_read<uint8_t>(mmio, config + at) == 0x09) {
      EXPECT_NE(bus_read<uint8_t>(mmio, config + at + 3), VIRTIO_PCI_CAP_DEVICE_CFG);
    }
  }
  EXPECT_EQ(found, 5);
  EXPECT_EQ(bus_read<uint8_t>(mmio, kWindow + PciTransport::kDevice), 0xff);
  bus_write<uint8_t>(mmio, kWindow + PciTransport::kDevice, 1);
}

}  // namespace
}  // namespace vmm::virtio
