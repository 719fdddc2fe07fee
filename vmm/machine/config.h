// SPDX-License-Identifier: Apache-2.0
//
// Everything a user can say about a machine: what the command line and the configuration file both fill in,
// and the only thing Machine is built from.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "devices/backend/host_forward.h"
#include "devices/backend/mac_address.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/log.h"
#include "vmm/core/types.h"

namespace vmm {

struct DiskConfig {
  std::filesystem::path file;
  bool read_only = false;
  std::string serial;                // at most 20 bytes (virtio 1.2, 5.2.6.1); empty: made from the position
  bool direct = false;               // past the host's cache
  std::optional<uint32_t> queues{};  // 1 to kMaximumQueues; none: one for each CPU
  bool io_thread = false;            // a thread for each queue, instead of the one for all devices
  uint64_t bytes_per_second = 0;     // 0: any
  uint64_t requests_per_second = 0;  // 0: any

  static constexpr uint32_t kMaximumQueues = 64;
};

struct UserNetConfig {
  std::vector<backend::HostForward> forwards;
};
struct TapNetConfig {
  std::string name;
  uint32_t queues = 1;     // pairs of them, 1 to kMaximumQueues
  bool io_thread = false;  // a thread for each pair, instead of the one for all devices
  bool vhost = false;      // frames go through the host's kernel alone

  static constexpr uint32_t kMaximumQueues = 16;
};
struct NetConfig {
  std::variant<UserNetConfig, TapNetConfig> backend;
  std::optional<backend::MacAddress> mac;  // none: a stable one is made up
  uint64_t bytes_per_second = 0;           // each way; 0: any
  uint64_t frames_per_second = 0;          // the same
};

struct ConsoleConfig {
  enum class Kind : uint8_t { stdio, file, socket, none };
  Kind kind = Kind::stdio;
  std::filesystem::path path;  // file and socket
  friend bool operator==(const ConsoleConfig&, const ConsoleConfig&) = default;
};

// Sockets between programs in the guest and on the host.
struct VsockConfig {
  static constexpr uint32_t kLeastCid = 3;
  static constexpr uint32_t kMostCid = 0xffff'fffe;

  uint32_t cid = kLeastCid;    // the guest's address
  std::filesystem::path path;  // of the socket by which the host reaches the guest
  friend bool operator==(const VsockConfig&, const VsockConfig&) = default;
};

enum class Transport : uint8_t {
  pci,
  mmio,          // described in ACPI
  mmio_cmdline,  // described by virtio_mmio.device= on the command line, for kernels without ACPI
};

// One step of a scripted boot: wait until the console has said `pattern`, then type `answer`.
struct Expectation {
  std::string pattern;  // POSIX extended regular expression
  std::string answer;   // typed as it is; empty: nothing
};

struct Config {
  static constexpr uint64_t kMinimumMemory = 64ULL << 20;
  static constexpr uint32_t kMaximumCpus = 254;  // an 8-bit local APIC id each; 255 is the broadcast

  std::filesystem::path kernel;
  std::filesystem::path initrd;        // empty: none
  std::optional<std::string> cmdline;  // replaces the default command line
  std::string append;                  // is added to it
  bool kaslr = true;                   // a Linux kernel that can be moved runs at random addresses
  std::filesystem::path symbols;       // ELF or System.map that names addresses in diagnostics; empty: none
  std::optional<Gpa> flat_address;     // load the kernel as a flat real-mode binary there

  uint32_t cpus = 1;
  std::vector<uint32_t>
      pins;  // the host CPU of each vCPU, as many as cpus; empty: wherever the host puts them
  std::string cpu_model = "host";
  uint64_t memory = 512ULL << 20;  // bytes, a multiple of 4 KiB
  MemoryBacking memory_backing;

  std::vector<DiskConfig> disks;
  // None given: one user network. An empty list: no network.
  std::optional<std::vector<NetConfig>> nets;
  ConsoleConfig console;                                                        // the serial port, ttyS0
  ConsoleConfig virtio_console{.kind = ConsoleConfig::Kind::none, .path = {}};  // hvc0
  std::optional<VsockConfig> vsock;
  Transport transport = Transport::pci;

  bool reboot = true;        // a guest's reset restarts the machine in place
  bool debug_ports = false;  // 0xE9, 0xF4 and the scratch device
  bool rtc = false;          // a CMOS clock; Linux has kvm-clock and does without
  bool pit = false;          // the i8254 and the ACPI PM timer, for kernels that need them
  // Where unpacked kernels are kept. None: in the user's cache directory; empty: nowhere.
  std::optional<std::filesystem::path> kernel_cache;
  std::filesystem::path stats;    // receipt as JSON; empty: none
  std::filesystem::path trace;    // exits with their times, for Perfetto; empty: none
  std::string id;                 // names the control socket at its usual place; empty: no name
  std::filesystem::path control;  // the control socket, wherever it is; empty: at its usual place, or none
  LogLevel log = LogLevel::warning;

  std::vector<Expectation> expectations;
  std::chrono::milliseconds timeout{0};  // 0: none
  // Without console output until diagnostics are printed; 0: never.
  std::chrono::milliseconds silence{30'000};
};

// The networks of this configuration: one in user mode where none is given and none is refused.
[[nodiscard]] inline std::vector<NetConfig> networks(const Config& config) {
  return config.nets.value_or(std::vector<NetConfig>(1));
}

// Virtio devices of this configuration; every machine has an entropy source and a balloon.
[[nodiscard]] inline size_t virtio_device_count(const Config& config) {
  constexpr size_t kAlways = 2;
  const bool console = config.virtio_console.kind != ConsoleConfig::Kind::none;
  return config.disks.size() + networks(config).size() + (console ? 1 : 0) + (config.vsock ? 1 : 0) + kAlways;
}

}  // namespace vmm
