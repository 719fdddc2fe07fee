// SPDX-License-Identifier: Apache-2.0
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <map>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "devices/virtio/pci.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/pci/fakes.h"
#include "tests/unit/virtio/fake_ring.h"
#include "tests/unit/virtio/probe_device.h"

namespace vmm::virtio {
namespace {

using namespace std::chrono_literals;
using pci::bus_read;
using pci::bus_write;

constexpr uint64_t kEcam = 0xe0000000;
constexpr uint64_t kWindow = 0xc0000000;
constexpr uint32_t kApic = 0xfee00000;
constexpr unsigned kFound = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
constexpr unsigned kNegotiated = kFound | VIRTIO_CONFIG_S_FEATURES_OK;
constexpr unsigned kRunning = kNegotiated | VIRTIO_CONFIG_S_DRIVER_OK;

bool wait_until(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(100us);
  }
  return true;
}

// A guest with one device at 00:01.0, and KVM's part of the doorbells.
class VirtioPciTest : public testing::Test {
 protected:
  VirtioPciTest() {
    root_ = std::move(*pci::RootBus::create(ports_, mmio_, doorbells_,
                                            {.ecam = config_memory_,
                                             .readable = pages_,
                                             .window = {.base = Gpa{kWindow}, .size = 0x20000000},
                                             .intx = {&lines_[0], &lines_[1], &lines_[2], &lines_[3]}}));
    transport_ = std::move(*PciTransport::create(device_, memory_, *root_, msi_));
    for (uint32_t at = config<uint8_t>(0x34); at != 0; at = config<uint8_t>(at + 1)) {
      if (config<uint8_t>(at) == 0x11) msix_ = at;
      if (config<uint8_t>(at) == 0x09) vendor_[config<uint8_t>(at + 3)] = at;
    }
    decode();
  }
  ~VirtioPciTest() override { transport_->reset(); }

  void decode() { set_config<uint16_t>(pci::kCommand, pci::kCommandMemory); }
  template <typename T>
  T config(uint64_t offset) {
    return bus_read<T>(mmio_, kEcam + 0x8000 + offset);
  }
  template <typename T>
  void set_config(uint64_t offset, T value) {
    bus_write<T>(mmio_, kEcam + 0x8000 + offset, value);
  }
  template <typename T>
  T bar(uint64_t offset) {
    return bus_read<T>(mmio_, base_ + offset);
  }
  template <typename T>
  void set_bar(uint64_t offset, T value) {
    bus_write<T>(mmio_, base_ + offset, value);
  }
  unsigned status() { return bar<uint8_t>(VIRTIO_PCI_COMMON_STATUS); }
  void set_status(unsigned value) { set_bar(VIRTIO_PCI_COMMON_STATUS, static_cast<uint8_t>(value)); }

  void negotiate() {
    set_status(kFound);
    for (uint32_t window : {0U, 1U}) {
      set_bar(VIRTIO_PCI_COMMON_DFSELECT, window);
      set_bar(VIRTIO_PCI_COMMON_GFSELECT, window);
      set_bar(VIRTIO_PCI_COMMON_GF, bar<uint32_t>(VIRTIO_PCI_COMMON_DF));
    }
    set_status(kNegotiated);
  }
  void set_up_queue(uint16_t queue) {
    const QueueConfig rings = ring_.config();
    set_bar(VIRTIO_PCI_COMMON_Q_SELECT, queue);
    set_bar(VIRTIO_PCI_COMMON_Q_SIZE, rings.size);
    set_bar(VIRTIO_PCI_COMMON_Q_DESCLO, static_cast<uint32_t>(rings.descriptors.raw));
    set_bar(VIRTIO_PCI_COMMON_Q_DESCHI, uint32_t{0});
    set_bar(VIRTIO_PCI_COMMON_Q_AVAILLO, rings.available.raw);  // a qword
    set_bar(VIRTIO_PCI_COMMON_Q_USEDLO, rings.used.raw);
    set_bar(VIRTIO_PCI_COMMON_Q_ENABLE, uint16_t{1});
  }
  // Queue 0 works; the ring begins anew.
  void start() {
    memory_.slice(Gpa{0x10000}, 0x4000)->zero();
    ring_ = FakeRing{memory_, Gpa{0x10000}, 16};
    negotiate();
    set_up_queue(0);
    set_status(kRunning);
    ASSERT_EQ(status(), kRunning);
  }
  void program_msix(uint16_t vector, uint32_t data) {
    const uint64_t entry = PciTransport::kMsixTable + vector * 16U;
    set_bar(entry, kApic);
    set_bar(entry + 4, uint32_t{0});
    set_bar(entry + 8, data);
    set_bar(entry + 12, uint32_t{0});
  }
  void enable_msix(bool enabled) { set_config<uint16_t>(msix_ + 2, enabled ? 0x8000 : 0); }

  // A guest's doorbell write: taken by KVM where it is bound, else by the device.
  template <typename T = uint16_t>
  void write_doorbell(uint64_t offset, T value = 0) {
    {
      const std::lock_guard lock{doorbells_.mutex};
      for (const auto& [address, fd] : doorbells_.bound) {
        if (address.address != base_ + offset || (address.length != 0 && address.length != sizeof(T)))
          continue;
        const uint64_t one = 1;
        ASSERT_EQ(::write(fd, &one, sizeof one), ssize_t{sizeof one});
        return;
      }
    }
    set_bar(offset, value);
  }
  void ring_doorbell(uint16_t queue) { write_doorbell(PciTransport::kNotify + queue * 4U, queue); }
  bool works() {
    ring_.add({ring_.readable("x")});
    ring_doorbell(0);
    return wait_until([this] { return ring_.take_used().has_value(); });
  }
  void settle() {
    for (int i = 0; i < 3; ++i) loop_->call([] {});
  }

  Bus ports_;
  Bus mmio_;
  pci::FakeDoorbells doorbells_;
  pci::FakePages pages_;
  const pci::ConfigMemory config_memory_ = pci::ConfigMemory::create(Gpa{kEcam}).value();
  pci::FakeMsiSink msi_;
  std::array<pci::FakeIrqLine, 4> lines_;
  LoopThread loop_;
  GuestMemory memory_ = make_test_memory();
  ProbeDevice device_{*loop_};
  std::unique_ptr<pci::RootBus> root_;
  std::unique_ptr<PciTransport> transport_;
  FakeRing ring_{memory_, Gpa{0x10000}, 16};
  uint64_t base_ = kWindow;
  uint32_t msix_ = 0;
  std::map<uint8_t, uint32_t> vendor_;  // capabilities by type
};

TEST_F(VirtioPciTest, IsFoundByItsIdentity) {
  EXPECT_EQ(config<uint32_t>(0x00), 0x10441af4U);
  EXPECT_EQ(config<uint8_t>(0x08), 1) << "revision: not transitional";
  EXPECT_EQ(config<uint32_t>(0x08) >> 8, 0x00ff00U);
  EXPECT_EQ(config<uint16_t>(0x2c), 0x1af4);
  EXPECT_EQ(config<uint32_t>(0x10), kWindow | 4);
  EXPECT_EQ(transport_->device_number(), 1);
}

TEST_F(VirtioPciTest, CapabilitiesSayWhereThingsAre) {
  const auto place = [this](uint8_t type) {
    const uint32_t at = vendor_.at(type);
    EXPECT_EQ(config<uint8_t>(at + 4), 0);
    return std::pair{config<uint32_t>(at + 8), config<uint32_t>(at + 12)};
  };
  EXPECT_EQ(place(VIRTIO_PCI_CAP_COMMON_CFG), (std::pair{0x0000U, 56U}));
  EXPECT_EQ(place(VIRTIO_PCI_CAP_ISR_CFG), (std::pair{0x1000U, 1U}));
  EXPECT_EQ(place(VIRTIO_PCI_CAP_DEVICE_CFG), (std::pair{0x2000U, 12U}));
  EXPECT_EQ(place(VIRTIO_PCI_CAP_NOTIFY_CFG), (std::pair{0x3000U, 8U}));
  EXPECT_EQ(config<uint8_t>(vendor_.at(VIRTIO_PCI_CAP_COMMON_CFG) + 2), 16);
  EXPECT_EQ(config<uint8_t>(vendor_.at(VIRTIO_PCI_CAP_NOTIFY_CFG) + 2), 20);
  EXPECT_EQ(config<uint32_t>(vendor_.at(VIRTIO_PCI_CAP_NOTIFY_CFG) + 16), 4U);
  EXPECT_EQ(config<uint8_t>(vendor_.at(VIRTIO_PCI_CAP_PCI_CFG) + 2), 20);
  EXPECT_EQ(config<uint16_t>(msix_ + 2), 2) << "two queues and the configuration: three vectors";
  EXPECT_EQ(config<uint32_t>(msix_ + 4), 0x4000U);
  EXPECT_EQ(config<uint32_t>(msix_ + 8), 0x5000U);
}

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
  for (const uint64_t at : {uint64_t{VIRTIO_PCI_COMMON_STATUS}, PciTransport::kDevice, PciTransport::kNotify,
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
  EXPECT_EQ(doorbells_.bound[1].first.address, kWindow + 0x3004);
  EXPECT_EQ(doorbells_.bound[1].first.length, 0U) << "any width";
  set_status(0);
  EXPECT_EQ(status(), 0U);
  EXPECT_TRUE(doorbells_.bound.empty());
  start();
  EXPECT_TRUE(works());
  EXPECT_EQ(doorbells_.unknown, 0);
}

// HG35: the BAR moves, and decoding is switched, while the device works.
TEST_F(VirtioPciTest, BarMovesWhileRunning) {
  start();
  EXPECT_TRUE(works());
  set_config<uint32_t>(0x10, 0xd0000000U);
  base_ = 0xd0000000;
  EXPECT_EQ(doorbells_.bound[0].first.address, 0xd0003000U);
  EXPECT_EQ(status(), kRunning);
  EXPECT_TRUE(works());
  set_config<uint32_t>(0x10, 0xfee00000U);
  EXPECT_TRUE(doorbells_.bound.empty());
  EXPECT_EQ(bus_read<uint32_t>(mmio_, 0xfee00000), ~0U);
  set_config<uint32_t>(0x10, 0xd0000000U);
  for (int i = 0; i < 1000; ++i) {
    set_config<uint16_t>(pci::kCommand, 0);
    set_config<uint16_t>(pci::kCommand, pci::kCommandMemory);
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
    for (uint64_t at = 0; at < 0x1000; ++at) {
      write_doorbell(PciTransport::kNotify + at, uint8_t{0});
      write_doorbell(PciTransport::kNotify + at, uint16_t{0xffff});
      write_doorbell(PciTransport::kNotify + at, uint32_t{1});
      write_doorbell(PciTransport::kNotify + at, uint64_t{1} << 63);
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
  EXPECT_EQ(bar<uint32_t>(PciTransport::kNotify), ~0U);
}

// The BAR by way of configuration space (4.1.4.9).
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
  set_config<uint16_t>(pci::kCommand, pci::kCommandMemory);
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
  point(0, PciTransport::kNotify, 2);
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
                      {0, 20, 64},        {0, 20, 0xffffffff}, {0, 18, 4}};
  for (const auto& lie : lies) {
    point(lie.bar, lie.offset, lie.length);
    set_config<uint32_t>(data_, 0);
    EXPECT_EQ(config<uint32_t>(data_), 0U) << "the data register is only a register";
    EXPECT_EQ(status(), kRunning);
  }
  point(0, 0x7ffc, 4);
  EXPECT_EQ(config<uint32_t>(data_), ~0U) << "inside the BAR, but nothing is there";
  EXPECT_TRUE(works());
}

// HG32: through the BAR, behind the last entry and the last pending bit.
TEST_F(VirtioPciTest, MsixPagesHaveEnds) {
  set_bar(PciTransport::kMsixTable + 3 * 16, ~0U);
  EXPECT_EQ(bar<uint32_t>(PciTransport::kMsixTable + 3 * 16), 0U);
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
      if (i % 16 == 0) set_config<uint16_t>(pci::kCommand, pci::kCommandMemory);
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
                                               .window = {.base = Gpa{kWindow}, .size = 0x20000000},
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
