// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/root_bus.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace vmm::pci {
namespace {

constexpr uint64_t kAddressRegister = 0;  // offsets in the ports
constexpr uint64_t kResetControl = 1;
constexpr uint64_t kDataRegister = 4;
constexpr uint32_t kAddressEnable = 1U << 31;
constexpr uint32_t kAddressDefined = 0x80fffffc;  // enable, bus, device, function, register

// A generic PCI Express host bridge (vendor Red Hat), which no guest has a special driver or a quirk for.
constexpr Identity kHostBridge{.vendor = 0x1b36,
                               .device = 0x0008,
                               .revision = 0,
                               .class_code = 0x060000,
                               .subsystem_vendor = 0x1af4,
                               .subsystem = 0x1100};

// Calls `part(offset, bytes)` for each aligned dword that an access touches.
template <typename Bytes, typename Part>
void for_each_dword(uint64_t offset, Bytes bytes, Part part) {
  while (!bytes.empty()) {
    const size_t size = std::min<size_t>(bytes.size(), 4 - offset % 4);
    part(offset, bytes.first(size));
    offset += size;
    bytes = bytes.subspan(size);
  }
}

}  // namespace

RootBus::HostBridge::HostBridge() : config_(kHostBridge) {}

void RootBus::HostBridge::read_config(uint16_t offset, std::span<std::byte> out) {
  config_.read(offset, out);
}

RootBus::RootBus(Bus& ports, Bus& mmio, DoorbellSink& doorbells, const Place& place)
    : reset_control_(place.reset_control),
      memory_bars_(BarSpace::Kind::mmio, mmio, doorbells, place.memory),
      port_bars_(BarSpace::Kind::port, ports, doorbells, place.ports),
      wires_{IntxWire{*place.intx[0]}, IntxWire{*place.intx[1]}, IntxWire{*place.intx[2]},
             IntxWire{*place.intx[3]}},
      page_memory_(place.ecam),
      readable_(place.readable) {
  functions_[0] = &host_bridge_;
}

Result<std::unique_ptr<RootBus>> RootBus::create(Bus& ports, Bus& mmio, DoorbellSink& doorbells,
                                                 const Place& place) {
  std::unique_ptr<RootBus> bus{new RootBus{ports, mmio, doorbells, place}};
  VMM_TRY(ports.map(kConfigPort.raw, 8, bus->ports_, "pci-config"));
  VMM_TRY(mmio.map(place.ecam.base().raw, kEcamSize, bus->ecam_, "pci-ecam"));
  bus->add_page(0);
  return bus;
}

Result<Slot> RootBus::take_slot() {
  if (next_device_ == kDevices)
    return fail("add a PCI device: bus 0 has no more than {}, use fewer", kDevices - 1);
  const uint8_t device = next_device_++;
  return Slot{
      .device = device, .memory = memory_bars_, .ports = port_bars_, .wire = wires_[device % kIntxWires]};
}

void RootBus::plug(const Slot& slot, Function& function) {
  assert(slot.device < next_device_ && functions_[slot.device] == nullptr);
  functions_[slot.device] = &function;
  add_page(slot.device);
}

void RootBus::add_page(uint8_t device) {
  const auto [base, page] = page_memory_.page(device);
  pages_[device].emplace(readable_, base, page);
  pages_[device]->show(*functions_[device]);
}

void RootBus::reset() {
  ports_.address = 0;
  for (Function* function : functions_) {
    if (function != nullptr) function->reset();
  }
  for (uint8_t device = 0; device < kDevices; ++device) {
    if (pages_[device]) pages_[device]->show(*functions_[device]);
  }
}

Function* RootBus::function_at(uint64_t at) const {
  const uint64_t device = at >> 15;
  const uint64_t function = (at >> 12) & 7;
  return device < kDevices && function == 0 ? functions_[device] : nullptr;
}

void RootBus::write_config(uint64_t at, std::span<const std::byte> in) {
  Function* function = function_at(at);
  if (function == nullptr) return;
  function->write_config(static_cast<uint16_t>(at & 0xfff), in);
  if (auto& page = pages_[at >> 15]) page->refresh();
}

// The address register is claimed by dword accesses only; a byte at 0xCF9 is the reset control register's, as
// on PC chipsets, and other accesses find nothing. Bus numbers other than 0 give offsets that no function
// has.
void RootBus::Ports::read(uint64_t offset, std::span<std::byte> out) {
  if (offset == kAddressRegister && out.size() == 4) {
    const uint32_t value = address;
    std::memcpy(out.data(), &value, sizeof(value));
  } else if (offset == kResetControl && out.size() == 1 && bus_.reset_control_ != nullptr) {
    bus_.reset_control_->read(0, out);
  } else if (const uint32_t selected = address; offset >= kDataRegister && (selected & kAddressEnable) != 0) {
    const uint64_t at = ((selected & 0xffff00U) << 4) | (selected & 0xfcU) | (offset & 3);
    if (Function* function = bus_.function_at(at))
      function->read_config(static_cast<uint16_t>(at & 0xfff), out);
  }
}

void RootBus::Ports::write(uint64_t offset, std::span<const std::byte> in) {
  if (offset == kAddressRegister && in.size() == 4) {
    uint32_t value = 0;
    std::memcpy(&value, in.data(), sizeof(value));
    address = value & kAddressDefined;
  } else if (offset == kResetControl && in.size() == 1 && bus_.reset_control_ != nullptr) {
    bus_.reset_control_->write(0, in);
  } else if (const uint32_t selected = address; offset >= kDataRegister && (selected & kAddressEnable) != 0) {
    const uint64_t at = ((selected & 0xffff00U) << 4) | (selected & 0xfcU) | (offset & 3);
    bus_.write_config(at, in);
  }
}

void RootBus::Ecam::read(uint64_t offset, std::span<std::byte> out) {
  for_each_dword(offset, out, [this](uint64_t at, std::span<std::byte> part) {
    if (Function* function = bus_.function_at(at))
      function->read_config(static_cast<uint16_t>(at & 0xfff), part);
  });
}

void RootBus::Ecam::write(uint64_t offset, std::span<const std::byte> in) {
  for_each_dword(offset, in,
                 [this](uint64_t at, std::span<const std::byte> part) { bus_.write_config(at, part); });
}

}  // namespace vmm::pci
