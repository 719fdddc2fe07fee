// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/virtio_devices.h"

#include <algorithm>
#include <cassert>

#include <fmt/core.h>

#include "devices/backend/entropy.h"
#include "devices/pci/root_bus.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/device.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/net.h"
#include "devices/virtio/pci.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vhost_net.h"
#include "devices/virtio/vsock.h"
#include "vmm/machine/io_thread.h"
#include "vmm/machine/layout.h"

namespace vmm {

// Members in the order they are built: devices before the transports that use them.
struct VirtioDevices::Parts {
  explicit Parts(const Wiring& w) : wiring(w) {}

  Result<void> create_devices(const Config& config);
  Result<void> create_disk(const DiskConfig& config, uint32_t cpus, backend::Block& image, std::string name);
  Result<void> create_net(const NetConfig& config, backend::Net& backend, const std::string& name);
  // Where so many queues are worked: all with the other devices, or each on a thread of its own.
  Result<std::vector<EventLoop*>> create_loops(size_t queues, bool io_thread);
  Result<void> create_pci();
  Result<void> attach_pci(virtio::Device& device);
  Result<void> attach_mmio(virtio::Device& device);

  const Wiring wiring;
  backend::HostEntropy entropy;
  std::vector<std::unique_ptr<IoThread>> io_threads;
  std::vector<std::unique_ptr<virtio::Device>> devices;
  // Some of them again, for their counters.
  std::vector<virtio::Blk*> disks;
  std::vector<const virtio::Net*> nets;
  const virtio::Vsock* vsock = nullptr;
  const virtio::Rng* rng = nullptr;
  virtio::Balloon* balloon = nullptr;

  std::vector<std::unique_ptr<IrqLine>> lines;
  std::unique_ptr<pci::RootBus> bus;
  std::vector<std::unique_ptr<virtio::PciTransport>> on_pci;
  std::vector<std::unique_ptr<virtio::MmioTransport>> on_mmio;
};

VirtioDevices::VirtioDevices(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

VirtioDevices::~VirtioDevices() {
  for (auto& thread : parts_->io_threads) thread->stop();
}

Result<std::unique_ptr<VirtioDevices>> VirtioDevices::create(const Config& config, const Wiring& wiring) {
  auto parts = std::make_unique<Parts>(wiring);
  VMM_TRY(parts->create_devices(config));
  assert(parts->devices.size() == virtio_device_count(config));
  if (config.transport == Transport::pci) VMM_TRY(parts->create_pci());
  for (const auto& device : parts->devices) {
    VMM_TRY(parts->bus ? parts->attach_pci(*device) : parts->attach_mmio(*device));
  }
  for (const auto& thread : parts->io_threads) thread->start("io-queue");
  return std::unique_ptr<VirtioDevices>{new VirtioDevices{std::move(parts)}};
}

// In the order in which guests find them: vda, vdb, …, eth0, …
Result<void> VirtioDevices::Parts::create_devices(const Config& config) {
  auto& backends = wiring.backends;
  for (size_t i = 0; i < backends.disks.size(); ++i) {
    VMM_TRY(create_disk(config.disks[i], config.cpus, *backends.disks[i], fmt::format("blk{}", i)));
  }
  const auto net_configs = networks(config);
  for (size_t i = 0; i < backends.nets.size(); ++i) {
    const auto name = fmt::format("net{}", i);
    if (backends.vhosts[i]) {
      const auto mac = net_configs[i].mac.value_or(backend::MacAddress::stable(name));
      VMM_TRY_ASSIGN(auto net, virtio::VhostNet::create(wiring.loop, *backends.nets[i], *backends.vhosts[i],
                                                        wiring.memory, mac, name));
      devices.push_back(std::move(net));
    } else {
      VMM_TRY(create_net(net_configs[i], *backends.nets[i], name));
    }
  }
  if (backends.virtio_console) {
    devices.push_back(std::make_unique<virtio::Console>("console0", wiring.loop, *backends.virtio_console));
  }
  if (backends.vsock) {
    auto sockets = std::make_unique<virtio::Vsock>(wiring.loop, *backends.vsock, config.vsock->cid, "vsock0");
    vsock = sockets.get();
    devices.push_back(std::move(sockets));
  }
  auto source = std::make_unique<virtio::Rng>(wiring.loop, entropy, "rng0");
  rng = source.get();
  devices.push_back(std::move(source));
  // Who had all memory taken beforehand does not want it back page by page.
  const bool report_free_pages = wiring.memory.can_discard() && !config.memory_backing.prefault;
  auto elastic =
      std::make_unique<virtio::Balloon>(wiring.loop, wiring.memory, "balloon0",
                                        virtio::Balloon::Options{.report_free_pages = report_free_pages});
  balloon = elastic.get();
  devices.push_back(std::move(elastic));
  return {};
}

Result<std::vector<EventLoop*>> VirtioDevices::Parts::create_loops(size_t queues, bool io_thread) {
  std::vector<EventLoop*> loops(queues, &wiring.loop);
  for (auto& loop : loops) {
    if (!io_thread) break;
    VMM_TRY_ASSIGN(auto thread, IoThread::create());
    loop = &thread->loop();
    io_threads.push_back(std::move(thread));
  }
  return loops;
}

Result<void> VirtioDevices::Parts::create_disk(const DiskConfig& config, uint32_t cpus, backend::Block& image,
                                               std::string name) {
  const uint32_t queues = config.queues.value_or(std::min(cpus, DiskConfig::kMaximumQueues));
  VMM_TRY_ASSIGN(const auto loops, create_loops(queues, config.io_thread));
  const auto serial = config.serial.empty() ? name : config.serial;
  VMM_TRY_ASSIGN(auto disk, virtio::Blk::create(loops, image, std::move(name), serial));
  disks.push_back(disk.get());
  devices.push_back(std::move(disk));
  return {};
}

Result<void> VirtioDevices::Parts::create_net(const NetConfig& config, backend::Net& backend,
                                              const std::string& name) {
  const auto* tap = std::get_if<TapNetConfig>(&config.backend);
  VMM_TRY_ASSIGN(const auto loops,
                 create_loops(tap != nullptr ? tap->queues : 1, tap != nullptr && tap->io_thread));
  const auto mac = config.mac.value_or(backend::MacAddress::stable(name));
  const backend::RateLimit::Rates rates{.bytes = config.bytes_per_second,
                                        .operations = config.frames_per_second};
  auto net = std::make_unique<virtio::Net>(loops, backend, mac, name, rates);
  nets.push_back(net.get());
  devices.push_back(std::move(net));
  return {};
}

Result<void> VirtioDevices::Parts::create_pci() {
  pci::RootBus::Place place{.ecam = *wiring.ecam,
                            .readable = wiring.vm,
                            .memory = {.base = layout::kPciWindow, .size = layout::kPciWindowSize},
                            .ports = {.base = layout::kPciPorts, .size = layout::kPciPortsSize},
                            .intx = {},
                            .reset_control = &wiring.reset_control};
  for (uint32_t wire = 0; wire < pci::kIntxWires; ++wire) {
    VMM_TRY_ASSIGN(auto line,
                   wiring.vm.create_line(Gsi{layout::kPciIntxGsi + wire}, kvm::Vm::Trigger::level));
    place.intx[wire] = line.get();
    lines.push_back(std::move(line));
  }
  VMM_TRY_ASSIGN(bus, pci::RootBus::create(wiring.ports, wiring.mmio, wiring.vm, place));
  return {};
}

Result<void> VirtioDevices::Parts::attach_pci(virtio::Device& device) {
  VMM_TRY_ASSIGN(auto transport, virtio::PciTransport::create(device, wiring.memory, *bus, wiring.vm));
  on_pci.push_back(std::move(transport));
  return {};
}

Result<void> VirtioDevices::Parts::attach_mmio(virtio::Device& device) {
  const size_t index = on_mmio.size();
  if (index >= std::size(layout::kMmioGsis)) {
    return fail(
        "{} virtio devices are too many for the MMIO transport, which has {} interrupts: use --transport pci",
        devices.size(), std::size(layout::kMmioGsis));
  }
  VMM_TRY_ASSIGN(auto line, wiring.vm.create_line(Gsi{layout::kMmioGsis[index]}, kvm::Vm::Trigger::edge));
  const Gpa base{layout::kVirtioMmio + index * layout::kVirtioMmioSize};
  VMM_TRY_ASSIGN(auto transport,
                 virtio::MmioTransport::create(device, wiring.memory, *line, wiring.vm, base));
  VMM_TRY(wiring.mmio.map(base.raw, layout::kVirtioMmioSize, *transport, device.name()));
  lines.push_back(std::move(line));
  on_mmio.push_back(std::move(transport));
  return {};
}

firmware::AcpiConfig VirtioDevices::describe(const Config& config) const {
  firmware::AcpiConfig acpi;
  acpi.cpus = config.cpus;
  acpi.local_apic = Gpa{layout::kLocalApic};
  acpi.io_apic = Gpa{layout::kIoApic};
  acpi.pm = Port{layout::kAcpiPm};
  acpi.sci = layout::kSciGsi;
  acpi.cmos_rtc = config.rtc;
  acpi.pm_timer = config.pit;
  if (parts_->bus) acpi.ecam = Gpa{layout::kEcam};
  if (config.transport == Transport::mmio) {
    for (size_t i = 0; i < parts_->on_mmio.size(); ++i) {
      acpi.virtio_mmio.push_back(
          {Gpa{layout::kVirtioMmio + i * layout::kVirtioMmioSize}, Gsi{layout::kMmioGsis[i]}});
    }
  }
  return acpi;
}

virtio::Balloon& VirtioDevices::balloon() {
  return *parts_->balloon;
}

virtio::Blk& VirtioDevices::disk(size_t index) {
  return *parts_->disks[index];
}

void VirtioDevices::stop() {
  for (auto& transport : parts_->on_pci) transport->core().reset();
  for (auto& transport : parts_->on_mmio) transport->reset();
  for (auto& thread : parts_->io_threads) thread->stop();
}

void VirtioDevices::report(Receipt& receipt) const {
  const auto add = [&receipt](std::string_view name, uint64_t in, uint64_t out) {
    auto known = std::ranges::find(receipt.traffic, name, &Receipt::Traffic::device);
    if (known == receipt.traffic.end()) {
      receipt.traffic.push_back({std::string{name}, 0, 0});
      known = std::prev(receipt.traffic.end());
    }
    known->in += in;
    known->out += out;
  };
  for (const auto* disk : parts_->disks) {
    const auto counts = disk->counts();
    add(disk->name(), counts.bytes_read, counts.bytes_written);
  }
  for (const auto* net : parts_->nets) add(net->name(), net->received().bytes, net->sent().bytes);
  if (const auto* vsock = parts_->vsock) add(vsock->name(), vsock->counts().in, vsock->counts().out);
  add(parts_->rng->name(), parts_->rng->bytes(), 0);
  receipt.memory_reported += parts_->balloon->reported();
}

}  // namespace vmm
