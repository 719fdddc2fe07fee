// SPDX-License-Identifier: Apache-2.0
//
// The little languages inside option values: sizes, disks, networks, consoles. Each is parsed from a string
// and written back as one, so that the command line and the configuration file agree. Errors name the value
// and say what would be one.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.h"
#include "vmm/machine/config.h"

namespace vmm::cli {

// "N[,pin=LIST]", the number of vCPUs and the host CPU of each: "4", "4,pin=0-3", "3,pin=0,2,4".
struct Cpus {
  uint32_t count = 1;
  std::vector<uint32_t> pins;
};
Result<Cpus> parse_cpus(std::string_view text);
std::string format_cpus(const Cpus& cpus);

// "512M", "2G", "1048576K"; powers of 1024; bytes without a suffix.
Result<uint64_t> parse_size(std::string_view text);
std::string format_size(uint64_t bytes);

// "SIZE" or "size=SIZE", then "[,hugepages=2M|transparent|none][,backing=private|memfd][,prefault]".
struct MemoryValue {
  uint64_t size = 0;  // bytes
  MemoryBacking backing;
  friend bool operator==(const MemoryValue&, const MemoryValue&) = default;
};
Result<MemoryValue> parse_memory(std::string_view text);
std::string format_memory(const MemoryValue& memory);

// "FILE[,ro][,serial=TEXT][,direct][,queues=N][,iothread][,bps=SIZE][,iops=N]". A comma in FILE is written
// twice.
Result<DiskConfig> parse_disk(std::string_view text);
std::string format_disk(const DiskConfig& disk);

// "user[,hostfwd=tcp:[HOST]:PORT-:GUEST]…" or "tap=NAME[,queues=N][,iothread]", then
// "[,mac=…][,bps=SIZE][,pps=N]".
Result<NetConfig> parse_net(std::string_view text);
std::string format_net(const NetConfig& net);

// "stdio", "file=FILE", "socket=FILE", "none".
Result<ConsoleConfig> parse_console(std::string_view text);
std::string format_console(const ConsoleConfig& console);

// "cid=N,path=FILE". A comma in FILE is written twice.
Result<VsockConfig> parse_vsock(std::string_view text);
std::string format_vsock(const VsockConfig& vsock);

Result<Transport> parse_transport(std::string_view text);
std::string_view format_transport(Transport transport);

// A whole number, decimal or 0x hexadecimal, from `least` to `most`.
Result<uint64_t> parse_number(std::string_view text, uint64_t least, uint64_t most);
// Seconds with an optional fraction: "90", "2.5".
Result<std::chrono::milliseconds> parse_seconds(std::string_view text);

// \n, \r, \t, \\ and \xNN in text that is typed to the guest.
Result<std::string> unescape(std::string_view text);

}  // namespace vmm::cli
