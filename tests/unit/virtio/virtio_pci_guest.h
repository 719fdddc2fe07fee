// SPDX-License-Identifier: Apache-2.0
//
// What a guest sees of a virtio device over PCI, for tests of its parts.
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "devices/virtio/pci.h"
#include "tests/unit/loop_thread.h"
#include "tests/unit/pci/fakes.h"
#include "tests/unit/virtio/fake_ring.h"
#include "tests/unit/virtio/probe_device.h"

namespace vmm::virtio {

using pci::bus_read;
using pci::bus_write;

inline constexpr uint64_t kEcam = 0xe0000000;
inline constexpr uint64_t kWindow = 0xc0000000;
inline constexpr uint64_t kPorts = 0xc000;
inline constexpr uint32_t kApic = 0xfee00000;
inline constexpr unsigned kFound = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
inline constexpr unsigned kNegotiated = kFound | VIRTIO_CONFIG_S_FEATURES_OK;
inline constexpr unsigned kRunning = kNegotiated | VIRTIO_CONFIG_S_DRIVER_OK;

inline bool wait_until(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds{100});
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
                                             .memory = {.base = kWindow, .size = 0x20000000},
                                             .ports = {.base = kPorts, .size = 0x4000},
                                             .intx = {&lines_[0], &lines_[1], &lines_[2], &lines_[3]}}));
    transport_ = std::move(*PciTransport::create(device_, memory_, *root_, msi_));
    for (uint32_t at = config<uint8_t>(0x34); at != 0; at = config<uint8_t>(at + 1)) {
      if (config<uint8_t>(at) == 0x11) msix_ = at;
      if (config<uint8_t>(at) == 0x09) vendor_[config<uint8_t>(at + 3)] = at;
    }
    decode();
  }
  ~VirtioPciTest() override { transport_->reset(); }

  void decode() { set_config<uint16_t>(pci::kCommand, pci::kCommandIo | pci::kCommandMemory); }
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

  // A guest's write to the I/O BAR: taken by KVM where a doorbell is bound, else by the device.
  template <typename T = uint16_t>
  void write_doorbell(uint64_t offset, T value = 0) {
    {
      const std::lock_guard lock{doorbells_.mutex};
      for (const auto& [address, fd] : doorbells_.bound) {
        if (address.space != DoorbellAddress::Space::port || address.address != ports_base_ + offset)
          continue;
        if (address.length != 0 && address.length != sizeof(T)) continue;
        const uint64_t one = 1;
        ASSERT_EQ(::write(fd, &one, sizeof one), ssize_t{sizeof one});
        return;
      }
    }
    bus_write<T>(ports_, ports_base_ + offset, value);
  }
  void ring_doorbell(uint16_t queue) { write_doorbell(queue * 4U, queue); }
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
  uint64_t ports_base_ = kPorts;
  uint32_t msix_ = 0;
  std::map<uint8_t, uint32_t> vendor_;  // capabilities by type
};

}  // namespace vmm::virtio
