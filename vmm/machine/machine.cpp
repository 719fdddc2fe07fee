// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/machine.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <map>
#include <thread>

#include <fmt/core.h>

#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/cmos_rtc.h"
#include "devices/legacy/debug_ports.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/pvpanic.h"
#include "devices/legacy/reset_control.h"
#include "devices/legacy/scratch.h"
#include "devices/legacy/serial_port.h"
#include "devices/pci/empty_ports.h"
#include "firmware/acpi.h"
#include "firmware/loader.h"
#include "firmware/smbios.h"
#include "vmm/core/log.h"
#include "vmm/core/power.h"
#include "vmm/kvm/binary_stats.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/command_line.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/memory_use.h"
#include "vmm/machine/vcpu_thread.h"
#include "vmm/machine/virtio_devices.h"

namespace vmm {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Turns what devices ask for into the end of the machine.
class PowerSwitch final : public PowerSink {
 public:
  explicit PowerSwitch(const std::function<void(Outcome)>& ended) : ended_(ended) {}
  void request(PowerEvent event, std::string_view source, uint8_t status) override {
    ended_({.kind = kind(event), .status = status, .detail = std::string{source}});
  }

 private:
  static Outcome::Kind kind(PowerEvent event) {
    switch (event) {
      case PowerEvent::power_off:
        return Outcome::Kind::power_off;
      case PowerEvent::reset:
        return Outcome::Kind::reset;
      case PowerEvent::guest_panic:
        return Outcome::Kind::guest_panic;
      case PowerEvent::debug_exit:
        return Outcome::Kind::debug_exit;
    }
    return Outcome::Kind::power_off;
  }
  const std::function<void(Outcome)>& ended_;
};

// The chips at fixed ports, and the lines they interrupt by.
struct LegacyBoard {
  LegacyBoard(const Config& config, backend::ObservedConsole& console, PowerSink& power,
              const std::function<void(uint8_t)>& marked, std::unique_ptr<IrqLine> com1_line,
              std::unique_ptr<IrqLine> sci_line)
      : com1_irq(std::move(com1_line)),
        sci(std::move(sci_line)),
        com1(console, *com1_irq),
        pm(*sci, power),
        i8042(power),
        reset(power),
        pvpanic(power),
        marker([&marked](const legacy::MarkerPort::Mark& mark) { marked(mark.value); }) {
    if (config.rtc) {
      const auto ranges = layout::ram_ranges(config.memory);
      rtc.emplace(ranges.front().size, ranges.size() > 1 ? ranges.back().size : 0);
    }
    if (config.debug_ports) debug.emplace(console, power);
  }

  Result<void> map(Bus& ports, Bus& mmio) {
    VMM_TRY(ports.map(layout::kCom1, legacy::SerialPort::kPorts, com1, "serial"));
    VMM_TRY(ports.map(layout::kAcpiPm, legacy::AcpiPm::kPorts, pm, "acpi-pm"));
    VMM_TRY(ports.map(layout::kI8042, legacy::I8042::kPorts, i8042, "i8042"));
    VMM_TRY(ports.map(layout::kPvpanic, legacy::Pvpanic::kPorts, pvpanic, "pvpanic"));
    VMM_TRY(ports.map(layout::kMarker, legacy::MarkerPort::kPorts, marker, "marker"));
    if (rtc) VMM_TRY(ports.map(layout::kCmos, legacy::CmosRtc::kPorts, *rtc, "rtc"));
    if (!debug) return {};
    VMM_TRY(ports.map(layout::kDebugConsole, legacy::DebugConsole::kPorts, debug->console, "debug-console"));
    VMM_TRY(ports.map(layout::kDebugExit, legacy::DebugExit::kPorts, debug->exit, "debug-exit"));
    VMM_TRY(ports.map(layout::kScratchPorts, legacy::Scratch::kPortSize, debug->scratch.ports(), "scratch"));
    return mmio.map(layout::kScratchMmio, legacy::Scratch::kPageSize, debug->scratch.page(), "scratch");
  }

  struct DebugPorts {
    DebugPorts(backend::Console& output, PowerSink& power) : console(output), exit(power) {}
    legacy::DebugConsole console;
    legacy::DebugExit exit;
    legacy::Scratch scratch;
  };

  std::unique_ptr<IrqLine> com1_irq;
  std::unique_ptr<IrqLine> sci;
  legacy::SerialPort com1;
  legacy::AcpiPm pm;
  legacy::I8042 i8042;
  legacy::ResetControl reset;
  legacy::Pvpanic pvpanic;
  legacy::MarkerPort marker;
  std::optional<legacy::CmosRtc> rtc;
  std::optional<DebugPorts> debug;
};

std::vector<std::byte> random_seed() {
  std::vector<std::byte> seed(64);
  const auto got = ::getrandom(seed.data(), seed.size(), 0);
  seed.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return seed;
}

Result<firmware::KaslrRandom> kaslr_random() {
  firmware::KaslrRandom random{};
  if (::getrandom(random.data(), sizeof random, 0) != sizeof random) {
    return fail(errno, "draw random addresses for the kernel (--no-kaslr does without)");
  }
  return random;
}

std::optional<firmware::KernelCache> open_kernel_cache(const Config& config) {
  const auto directory = config.kernel_cache.value_or(firmware::KernelCache::user_directory());
  if (directory.empty()) return std::nullopt;
  return firmware::KernelCache::open(directory);
}

}  // namespace

// Members in the order they are built; destroyed in reverse, so that the vCPU threads go first, then the
// devices, then the buses, and the memory last.
struct Machine::Parts {
  Parts(const Config& machine_config, const Host& machine_host, Events machine_events)
      : config(machine_config), host(machine_host), events(std::move(machine_events)), power(events.ended) {}

  Result<void> create_memory();
  Result<void> create_vm();
  Result<void> create_devices();
  Result<void> create_vcpus();
  Result<void> write_tables();
  Result<BootState> load(std::vector<Receipt::Phase>& phases);
  [[nodiscard]] std::string name(uint64_t address) const;

  const Config& config;
  const Host host;
  const Events events;
  PowerSwitch power;
  std::optional<GuestMemory> memory;
  std::optional<pci::ConfigMemory> ecam;
  std::unique_ptr<kvm::Vm> vm;
  Bus ports;
  Bus mmio;
  std::optional<LegacyBoard> legacy;
  std::optional<pci::EmptyPorts> no_pci;
  std::unique_ptr<VirtioDevices> virtio;
  std::string kernel;
  firmware::KernelSlide slide;
  ExitTargets targets{
      ports,     mmio, events.ended, [this](uint64_t address) { return name(address); }, events.first_run,
      host.trace};
  std::vector<std::unique_ptr<VcpuThread>> vcpus;
};

Machine::Machine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Machine::~Machine() {
  stop();
}

Result<std::unique_ptr<Machine>> Machine::create(const Config& config, const Host& host, Events events,
                                                 std::vector<Receipt::Phase>& phases) {
  auto parts = std::make_unique<Parts>(config, host, std::move(events));
  auto last = SteadyClock::now();
  const auto phase = [&](std::string name) {
    const auto now = SteadyClock::now();
    phases.push_back({std::move(name), now - last, 0});
    last = now;
  };
  VMM_TRY(parts->create_memory());
  phase("memory");
  // Making a VM is mostly waiting for grace periods of the host's kernel: ours is loaded meanwhile.
  Result<void> made;
  std::thread maker{[&] { made = parts->create_vm(); }};
  auto loaded = parts->load(phases);
  last = SteadyClock::now();
  maker.join();
  VMM_TRY(made);
  VMM_TRY_ASSIGN(const BootState boot, std::move(loaded));
  phase("vm");  // what was left of it
  VMM_TRY(parts->create_devices());
  phase("devices");
  VMM_TRY(parts->write_tables());
  phase("tables");
  VMM_TRY(parts->create_vcpus());
  VMM_TRY(parts->vcpus.front()->prepare(boot));
  phase("vcpus");
  return std::unique_ptr<Machine>{new Machine{std::move(parts)}};
}

Result<void> Machine::Parts::create_memory() {
  const auto ranges = layout::ram_ranges(config.memory);
  VMM_TRY_ASSIGN(memory, GuestMemory::create(ranges, config.memory_backing));
  return {};
}

Result<void> Machine::Parts::create_vm() {
  std::vector<ReadablePages::Place> readable;
  if (config.transport == Transport::pci) {
    VMM_TRY_ASSIGN(ecam, pci::ConfigMemory::create(Gpa{layout::kEcam}));
    const size_t devices = std::min<size_t>(1 + virtio_device_count(config), pci::ConfigMemory::kDevices);
    for (size_t device = 0; device < devices; ++device) {
      readable.push_back(ecam->page(static_cast<uint8_t>(device)));
    }
  }
  VMM_TRY_ASSIGN(vm, kvm::Vm::create(host.system, *memory, {.pit = config.pit, .readable = readable}));
  return {};
}

Result<void> Machine::Parts::create_devices() {
  VMM_TRY_ASSIGN(auto com1, vm->create_line(layout::kCom1Gsi, kvm::Vm::Trigger::edge));
  VMM_TRY_ASSIGN(auto sci, vm->create_line(layout::kSciGsi, kvm::Vm::Trigger::level));
  legacy.emplace(config, *host.backends.serial, power, events.marked, std::move(com1), std::move(sci));
  VMM_TRY(legacy->map(ports, mmio));
  // The reset control register lies among the configuration ports of PCI, which pass it on.
  if (config.transport != Transport::pci) {
    no_pci.emplace(legacy->reset);
    VMM_TRY(ports.map(layout::kPciConfig, pci::EmptyPorts::kPorts, *no_pci, "pci-config"));
  }
  VMM_TRY_ASSIGN(virtio, VirtioDevices::create(config, {.loop = host.loop,
                                                        .backends = host.backends,
                                                        .memory = *memory,
                                                        .vm = *vm,
                                                        .ports = ports,
                                                        .mmio = mmio,
                                                        .reset_control = legacy->reset,
                                                        .ecam = ecam ? &*ecam : nullptr}));
  return {};
}

Result<void> Machine::Parts::create_vcpus() {
  VMM_TRY_ASSIGN(const auto supported, host.system.supported_cpuid());
  kvm::CpuidTable table;
  for (uint32_t index = 0; index < config.cpus; ++index) {
    VMM_TRY_ASSIGN(auto vcpu, vm->create_vcpu(index));
    if (index == 0) {
      table =
          kvm::shape_cpuid(supported, {.cpus = config.cpus,
                                       .tsc_khz = vcpu.tsc_khz(),
                                       .tsc_deadline = host.system.check(KVM_CAP_TSC_DEADLINE_TIMER) > 0});
      VMM_TRY_ASSIGN(table, kvm::apply_cpu_model(std::move(table), config.cpu_model));
    }
    VMM_TRY(vcpu.set_cpuid(kvm::for_vcpu(table, index)));
    VMM_TRY(vcpu.set_power_on_state());
    vcpus.push_back(std::make_unique<VcpuThread>(
        std::move(vcpu), targets, config.pins.empty() ? std::nullopt : std::optional{config.pins[index]}));
  }
  return {};
}

Result<void> Machine::Parts::write_tables() {
  VMM_TRY_ASSIGN(const auto rsdp, firmware::write_acpi(*memory, virtio->describe(config)));
  assert(rsdp == firmware::kAcpiBase);  // as the kernel was told
  VMM_TRY(firmware::write_smbios(*memory, {.version = VMM_VERSION, .cpus = config.cpus}));
  return {};
}

Result<BootState> Machine::Parts::load(std::vector<Receipt::Phase>& phases) {
  const auto begin = SteadyClock::now();
  const std::array others = {
      firmware::MemoryRange{Gpa{layout::kEcam}, layout::kEcamSize, firmware::MemoryType::reserved}};
  firmware::LoadOptions options;
  options.command_line = guest_command_line(config);
  options.initrd = config.initrd;
  options.memory_map = firmware::make_memory_map(*memory, others);
  options.rsdp = firmware::kAcpiBase;
  options.flat_address = config.flat_address;
  options.random_seed = random_seed();
  if (config.kaslr) {
    VMM_TRY_ASSIGN(options.kaslr, kaslr_random());
  }
  VMM_TRY_ASSIGN(const auto file, firmware::KernelFile::open(config.kernel));
  std::optional<firmware::KernelCache> cache;
  if (file.kind() == firmware::KernelKind::bzimage) cache = open_kernel_cache(config);
  options.cache = cache ? &*cache : nullptr;
  phases.push_back({"find", SteadyClock::now() - begin, 0});
  VMM_TRY_ASSIGN(auto loaded, firmware::load_kernel(file, *memory, options));
  for (const auto& phase : loaded.phases) {
    phases.push_back({std::string{phase.name}, phase.duration, phase.bytes_read});
  }
  kernel = std::move(loaded.description);
  slide = loaded.slide;
  return loaded.boot;
}

std::string Machine::Parts::name(uint64_t address) const {
  if (host.symbols == nullptr) return {};
  const auto known = host.symbols->name(address, slide);
  return known ? " (" + *known + ")" : std::string{};
}

void Machine::start() {
  for (auto& vcpu : parts_->vcpus) vcpu->start();
}

void Machine::stop() {
  for (auto& vcpu : parts_->vcpus) vcpu->stop();
  parts_->virtio->stop();
}

bool Machine::press_power_button() {
  return parts_->legacy->pm.press_power_button();
}

Result<void> Machine::set_memory(uint64_t bytes) {
  const uint64_t size = parts_->memory->size();
  if (bytes > size || bytes < Config::kMinimumMemory) {
    return fail("memory: between {} MiB and {} MiB are possible", Config::kMinimumMemory >> 20, size >> 20);
  }
  if (!parts_->memory->can_discard()) {
    return fail("memory: this guest's is in reserved huge pages, which it keeps");
  }
  parts_->virtio->balloon().set_target(size - bytes);
  return {};
}

Result<void> Machine::resize_disk(size_t index, uint64_t bytes) {
  return parts_->virtio->disk(index).resize(bytes);
}

MemoryReport Machine::memory() const {
  const auto& balloon = parts_->virtio->balloon();
  const uint64_t size = parts_->memory->size();
  return {.size = size,
          .target = size - balloon.target(),
          .balloon = balloon.actual(),
          .driver = balloon.has_driver(),
          .guest = std::nullopt};
}

void Machine::ask_memory(std::function<void(const MemoryReport&)> done) const {
  parts_->host.loop.post([this, done = std::move(done)] {
    parts_->virtio->balloon().ask_statistics([this, done](const auto& statistics) {
      auto report = memory();
      report.guest = statistics;
      done(report);
    });
  });
}

void Machine::report(Receipt& receipt) const {
  const auto& parts = *parts_;
  receipt.kernel = parts.kernel;

  std::map<std::string, uint64_t> exits;
  for (const auto& reason : receipt.exits) exits[reason.reason] = reason.count;
  std::map<std::string, uint64_t> counters;
  for (const auto& counter : receipt.kvm) counters[counter.name] = counter.value;
  const auto add_statistics = [&counters](const Fd& stats) {
    for (const auto& statistic : kvm::read_statistics(stats)) {
      auto& known = counters[statistic.name];
      known = statistic.cumulative ? known + statistic.value : std::max(known, statistic.value);
    }
  };
  add_statistics(parts.vm->stats_fd());
  for (const auto& vcpu : parts.vcpus) {
    const auto counts = vcpu->exit_counts();
    for (size_t kind = 0; kind < counts.size(); ++kind) {
      if (counts[kind] != 0) exits[std::string{kvm::exit_name(kind)}] += counts[kind];
    }
    add_statistics(vcpu->vcpu().stats_fd());
    receipt.cpu_guest += vcpu->cpu_time();
  }
  receipt.exits.clear();
  for (auto& [reason, count] : exits) receipt.exits.push_back({reason, count});
  receipt.kvm.clear();
  for (auto& [name, value] : counters) receipt.kvm.push_back({name, value});

  const auto add_accesses = [&receipt](std::string_view space, const Bus& bus) {
    for (const auto& counts : bus.counts()) {
      if (counts.reads + counts.writes == 0) continue;
      auto known = std::ranges::find_if(
          receipt.accesses, [&](const auto& a) { return a.space == space && a.device == counts.name; });
      if (known == receipt.accesses.end()) {
        receipt.accesses.push_back({std::string{space}, counts.name, 0, 0});
        known = std::prev(receipt.accesses.end());
      }
      known->reads += counts.reads;
      known->writes += counts.writes;
    }
  };
  add_accesses("port", parts.ports);
  add_accesses("mmio", parts.mmio);
  receipt.marks_dropped += parts.legacy->marker.dropped();
  parts.virtio->report(receipt);
  receipt.interrupts += parts.vm->interrupts();

  receipt.memory_size = parts.memory->size();
  const auto use = measure_memory(*parts.memory);
  receipt.memory_touched = use.guest;
  receipt.memory_vmm = use.beside();
  receipt.memory_program = use.program;
  receipt.memory_heap = use.heap;
}

std::vector<std::string> Machine::describe_vcpus() {
  std::vector<std::string> lines;
  for (auto& vcpu : parts_->vcpus) {
    const auto counts = vcpu->exit_counts();
    uint64_t exits = 0;
    for (const auto count : counts) exits += count;
    const auto at = vcpu->position();
    auto line = fmt::format("vCPU {}: {} exits to user space", vcpu->vcpu().index(), exits);
    if (!at) {
      line += ", does not answer";
    } else {
      line += fmt::format(", RIP {:#x}{}{}", at->rip, parts_->name(at->rip), at->halted ? ", halted" : "");
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace vmm
