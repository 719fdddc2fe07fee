// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/command_line.h"

#include <algorithm>

#include <fmt/core.h>

#include "vmm/machine/layout.h"

namespace vmm {

// Savings are those of Debian's cloud kernel 6.1 with a disk and a network on one CPU, in the counted lab.
std::vector<CommandLineWord> default_command_line(const Config& config) {
  std::vector<CommandLineWord> words{{"console=ttyS0", "messages and the login go to the serial port"}};
  if (config.virtio_console.kind == ConsoleConfig::Kind::stdio) {
    words.push_back({"console=hvc0",
                     "with --virtio-console stdio, which is the terminal: the login is there, if the kernel "
                     "has a driver; "
                     "a line is one exit, not one for each byte"});
  }
  if (!config.disks.empty()) {
    words.push_back({"root=/dev/vda", "the first disk is the root file system"});
    words.push_back({config.disks.front().read_only ? "ro" : "rw", "it can be written, or (,ro) it cannot"});
  }
  words.push_back(
      {"panic=-1", "a kernel that panicked asks for a reset at once: pvpanic has told vmm by then"});
  words.push_back({"reboot=acpi", "the reset register that ACPI names works: no other way is tried first"});
  words.push_back(
      {"loglevel=5",
       "warnings, errors and panics come to the console, the rest is in dmesg: each byte on a serial "
       "line is up to two exits; spares 186 ms and 38,700 exits"});
  words.push_back({"cryptomgr.notests",
                   "the kernel's ciphers are not tested against known answers at each boot (with fips=1 they "
                   "still are); spares 885 ms"});
  if (config.cpus == 1) {
    words.push_back(
        {"rcupdate.rcu_expedited=1",
         "with one CPU, which then disturbs no other: loading modules and mounting do not wait for "
         "timer ticks; spares 22 ms"});
  }
  words.push_back(
      {"8250.nr_uarts=1", "there is one serial port: three more are not looked for; spares 18 exits"});
  if (config.transport == Transport::mmio_cmdline) {
    words.push_back({"pci=off", "with --transport mmio-cmdline: there is no PCI, and no ACPI that says so"});
  } else {
    words.push_back(
        {"pci=noearly",
         "no chips are looked for that need workarounds before the kernel knows what it has; spares "
         "110 exits"});
  }
  return words;
}

std::string guest_command_line(const Config& config) {
  std::string line;
  if (config.cmdline) {
    line = *config.cmdline;
  } else {
    for (const auto& word : default_command_line(config)) line += (line.empty() ? "" : " ") + word.word;
  }
  if (config.transport == Transport::mmio_cmdline) {
    for (size_t i = 0; i < std::min(virtio_device_count(config), std::size(layout::kMmioGsis)); ++i) {
      line += fmt::format(" virtio_mmio.device=4K@{:#x}:{}:{}",
                          layout::kVirtioMmio + i * layout::kVirtioMmioSize, layout::kMmioGsis[i], i);
    }
  }
  if (!config.append.empty()) line += " " + config.append;
  return line;
}

}  // namespace vmm
