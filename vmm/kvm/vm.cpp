// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "vmm/core/event_loop.h"

namespace vmm::kvm {
namespace {

constexpr size_t kPage = 4096;
constexpr uint32_t kIoApicPins = 24;
constexpr uint32_t kPicPins = 16;

// Three pages for the TSS and one for the identity map, below the BIOS region and away from RAM
// (api.rst, 4.33).
constexpr uint64_t kIdentityMapPage = 0xfffbc000;
constexpr uint64_t kTssPages = 0xfffbd000;

kvm_irq_routing_entry pin_route(uint32_t gsi, uint32_t chip, uint32_t pin) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip.irqchip = chip;
  entry.u.irqchip.pin = pin;
  return entry;
}

class LevelLine final : public IrqLine {
 public:
  LevelLine(int vm_fd, Gsi gsi, std::atomic<uint64_t>& count) : vm_fd_(vm_fd), gsi_(gsi), count_(count) {}
  void set(bool level) override {
    if (level) count_.fetch_add(1, std::memory_order_relaxed);
    kvm_irq_level line{};
    line.irq = gsi_.raw;
    line.level = level ? 1 : 0;
    ::ioctl(vm_fd_, KVM_IRQ_LINE, &line);
  }
  void pulse() override {
    set(true);
    set(false);
  }

 private:
  const int vm_fd_;
  const Gsi gsi_;
  std::atomic<uint64_t>& count_;
};

class EdgeLine final : public IrqLine {
 public:
  EdgeLine(EventFd event, std::atomic<uint64_t>& count) : event_(std::move(event)), count_(count) {}
  void set(bool level) override {
    if (level) pulse();
  }
  void pulse() override {
    count_.fetch_add(1, std::memory_order_relaxed);
    event_.signal();
  }
  void pulse_with(EventLoop& loop) override {
    count_.fetch_add(1, std::memory_order_relaxed);
    loop.ring(event_);
  }

 private:
  const EventFd event_;
  std::atomic<uint64_t>& count_;
};

}  // namespace

// A routed GSI with an irqfd on it. Routes are not taken back: the VM goes before they run out.
class MsiRoute final : public MsiVector {
 public:
  MsiRoute(Vm& vm, Gsi gsi, EventFd event) : vm_(vm), gsi_(gsi), event_(std::move(event)) {}

  Result<void> route(const MsiMessage& message) override {
    auto result = vm_.set_route(gsi_, message);
    if (result && !bound_) {
      result = vm_.irqfd(gsi_, event_.get(), 0);
      bound_ = result.has_value();
    }
    return result;
  }

  void signal() override {
    vm_.interrupts_.fetch_add(1, std::memory_order_relaxed);
    event_.signal();
  }
  void signal_with(EventLoop& loop) override {
    vm_.interrupts_.fetch_add(1, std::memory_order_relaxed);
    loop.ring(event_);
  }

  Result<void> connect(const EventFd& bell) override { return vm_.irqfd(gsi_, bell.get(), 0); }
  void disconnect(const EventFd& bell) override {
    [[maybe_unused]] const auto gone = vm_.irqfd(gsi_, bell.get(), KVM_IRQFD_FLAG_DEASSIGN);
  }

 private:
  Vm& vm_;
  const Gsi gsi_;
  const EventFd event_;
  bool bound_ = false;  // callers of route() hold their own lock
};

Result<std::unique_ptr<Vm>> Vm::create(const System& system, const GuestMemory& memory,
                                       const Options& options) {
  // Creation is interrupted by signals on kernels where it takes long.
  int fd = -1;
  do {
    fd = ::ioctl(system.fd(), KVM_CREATE_VM, 0);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail(errno, "create a virtual machine");
  std::unique_ptr<Vm> vm{new Vm{system, Fd{fd}}};

  uint64_t identity_map = kIdentityMapPage;
  ::ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);  // only Intel CPUs have a use for these two
  ::ioctl(fd, KVM_SET_TSS_ADDR, kTssPages);

  // Before the interrupt controllers: the other way round KVM waits longer for readers of its tables.
  uint32_t slot = 0;
  for (const auto& region : memory.regions()) {
    kvm_userspace_memory_region slot_region{};
    slot_region.slot = slot++;
    slot_region.guest_phys_addr = region.base.raw;
    slot_region.memory_size = region.mapping.size();
    slot_region.userspace_addr = reinterpret_cast<uint64_t>(region.mapping.data());
    if (::ioctl(fd, KVM_SET_USER_MEMORY_REGION, &slot_region) != 0) {
      return fail(errno, "give the guest {} MiB of memory at {:#x}", region.mapping.size() >> 20,
                  region.base.raw);
    }
  }
  for (const auto& [base, pages] : options.readable) {
    if (!vm->show(base, pages)) break;  // who needs them shows them again, and tells why it cannot be
  }
  if (::ioctl(fd, KVM_CREATE_IRQCHIP, 0) != 0) return fail(errno, "create the interrupt controllers");
  if (options.pit) {
    kvm_pit_config pit{};
    pit.flags = KVM_PIT_SPEAKER_DUMMY;
    if (::ioctl(fd, KVM_CREATE_PIT2, &pit) != 0) return fail(errno, "create the interval timer");
  }
  // Any routing table of ours replaces KVM's default, so the pins come first.
  for (uint32_t pin = 0; pin < kIoApicPins; ++pin) {
    vm->routes_.push_back(pin_route(pin, KVM_IRQCHIP_IOAPIC, pin));
    if (pin < kPicPins) {
      vm->routes_.push_back(
          pin_route(pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin % 8));
    }
  }
  vm->next_gsi_ = kIoApicPins;
  return vm;
}

Result<Vcpu> Vm::create_vcpu(uint32_t index) {
  Fd fd{::ioctl(fd_.get(), KVM_CREATE_VCPU, index)};
  if (!fd) return fail(errno, "create vCPU {}", index);
  const size_t size = system_.run_area_size();
  void* area = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (area == MAP_FAILED) return fail(errno, "map the run area of vCPU {}", index);
  // The same page for all of them.
  const int page = system_.check(KVM_CAP_COALESCED_MMIO);
  if (index == 0 && page > 0)
    coalesced_.attach(static_cast<std::byte*>(area) + static_cast<size_t>(page) * kPage);
  return Vcpu{index, std::move(fd), Mapping{static_cast<std::byte*>(area), size}, coalesced_};
}

Result<std::unique_ptr<IrqLine>> Vm::create_line(Gsi gsi, Trigger trigger) {
  if (trigger == Trigger::level) return std::make_unique<LevelLine>(fd_.get(), gsi, interrupts_);
  VMM_TRY_ASSIGN(auto event, EventFd::create());
  VMM_TRY(irqfd(gsi, event.get(), 0));
  return std::make_unique<EdgeLine>(std::move(event), interrupts_);
}

Result<std::unique_ptr<MsiVector>> Vm::create_vector() {
  VMM_TRY_ASSIGN(auto event, EventFd::create());
  const std::lock_guard lock{routes_mutex_};
  return std::make_unique<MsiRoute>(*this, Gsi{next_gsi_++}, std::move(event));
}

Result<void> Vm::set_route(Gsi gsi, const MsiMessage& message) {
  const std::lock_guard lock{routes_mutex_};
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi.raw;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = static_cast<uint32_t>(message.address);
  entry.u.msi.address_hi = static_cast<uint32_t>(message.address >> 32);
  entry.u.msi.data = message.data;
  const auto found = std::ranges::find_if(
      routes_, [&](const auto& route) { return route.gsi == gsi.raw && route.type == KVM_IRQ_ROUTING_MSI; });
  if (found == routes_.end()) {
    routes_.push_back(entry);
  } else {
    // Both were zeroed whole, so bytes that mean nothing are equal, too.
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (std::memcmp(&*found, &entry, sizeof entry) == 0) return {};
    *found = entry;
  }
  auto sent = send_routes();
  if (!sent) {  // KVM keeps its old table: so do we, less the route that it refused
    std::erase_if(routes_, [&](const auto& route) { return route.gsi == gsi.raw; });
    [[maybe_unused]] const auto without = send_routes();
  }
  return sent;
}

Result<void> Vm::send_routes() {
  const auto bytes = offsetof(kvm_irq_routing, entries) + routes_.size() * sizeof(kvm_irq_routing_entry);
  const auto buffer = std::make_unique<std::byte[]>(bytes);
  auto* table = reinterpret_cast<kvm_irq_routing*>(buffer.get());
  table->nr = static_cast<uint32_t>(routes_.size());
  std::memcpy(table->entries, routes_.data(), routes_.size() * sizeof(kvm_irq_routing_entry));
  if (::ioctl(fd_.get(), KVM_SET_GSI_ROUTING, table) != 0) return fail(errno, "route an interrupt");
  return {};
}

Result<void> Vm::irqfd(Gsi gsi, int event_fd, uint32_t flags) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event_fd);
  request.gsi = gsi.raw;
  request.flags = flags;
  if (::ioctl(fd_.get(), KVM_IRQFD, &request) != 0)
    return fail(errno, "bind an eventfd to interrupt {}", gsi.raw);
  return {};
}

Result<void> Vm::bind(const DoorbellAddress& address, int event_fd) {
  return ioeventfd(address, event_fd, 0);
}

void Vm::unbind(const DoorbellAddress& address, int event_fd) {
  [[maybe_unused]] const auto gone = ioeventfd(address, event_fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Result<void> Vm::ioeventfd(const DoorbellAddress& address, int event_fd, uint32_t flags) {
  kvm_ioeventfd request{};
  request.addr = address.address;
  request.len = address.length;
  request.fd = event_fd;
  request.flags = flags;
  if (address.space == DoorbellAddress::Space::port) request.flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (address.match) {
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    request.datamatch = *address.match;
  }
  if (::ioctl(fd_.get(), KVM_IOEVENTFD, &request) != 0) {
    return fail(errno, "bind a doorbell at {:#x}", address.address);
  }
  return {};
}

void Vm::coalesce(Gpa base, uint64_t size) {
  kvm_coalesced_mmio_zone zone{};
  zone.addr = base.raw;
  zone.size = static_cast<uint32_t>(size);
  ::ioctl(fd_.get(), KVM_REGISTER_COALESCED_MMIO, &zone);
}

void Vm::uncoalesce(Gpa base, uint64_t size) {
  kvm_coalesced_mmio_zone zone{};
  zone.addr = base.raw;
  zone.size = static_cast<uint32_t>(size);
  ::ioctl(fd_.get(), KVM_UNREGISTER_COALESCED_MMIO, &zone);
}

Result<void> Vm::show(Gpa base, std::span<std::byte> pages) {
  const std::lock_guard lock{shown_mutex_};
  if (shown_.contains(base.raw)) return {};
  kvm_userspace_memory_region slot{};
  slot.slot = next_shown_;
  slot.flags = KVM_MEM_READONLY;  // writes come as MMIO exits (api.rst, 4.35)
  slot.guest_phys_addr = base.raw;
  slot.memory_size = pages.size();
  slot.userspace_addr = reinterpret_cast<uint64_t>(pages.data());
  if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &slot) != 0) {
    return fail(errno, "no read-only memory slot of {} bytes at {:#x}", pages.size(), base.raw);
  }
  shown_[base.raw] = next_shown_++;
  return {};
}

void Vm::hide(Gpa base) {
  const std::lock_guard lock{shown_mutex_};
  const auto shown = shown_.find(base.raw);
  if (shown == shown_.end()) return;
  kvm_userspace_memory_region slot{};
  slot.slot = shown->second;  // a size of zero deletes it
  slot.guest_phys_addr = base.raw;
  ::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &slot);
  shown_.erase(shown);
}

Fd Vm::stats_fd() const {
  return Fd{::ioctl(fd_.get(), KVM_GET_STATS_FD, 0)};
}

}  // namespace vmm::kvm
