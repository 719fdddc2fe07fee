// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/command_line.h"

#include <fmt/core.h>

#include "vmm/machine/layout.h"

namespace vmm {
namespace {

// Word by word:
//   console=ttyS0        messages and the login go to the serial port
//   root=, ro or rw      the first disk, as it can be written or not
//   panic=-1             a panicked kernel asks for a reset at once: pvpanic has told us by then
//   reboot=acpi          by the FADT's reset register, first and only
//   pci=off              over MMIO there is no PCI: the kernel need not look for it
std::string default_command_line(const Config& config) {
  std::string line = "console=ttyS0";
  if (!config.disks.empty()) {
    line += fmt::format(" root=/dev/vda {}", config.disks.front().read_only ? "ro" : "rw");
  }
  line += " panic=-1 reboot=acpi";
  return config.transport == Transport::pci ? line : line + " pci=off";
}

}  // namespace

std::string guest_command_line(const Config& config) {
  std::string line = config.cmdline ? *config.cmdline : default_command_line(config);
  if (config.transport == Transport::mmio_cmdline) {
    const size_t consoles = config.virtio_console.kind == ConsoleConfig::Kind::none ? 0 : 1;
    const size_t devices =
        config.disks.size() + networks(config).size() + consoles + 1;  // and the entropy source
    for (size_t i = 0; i < devices && i < std::size(layout::kMmioGsis); ++i) {
      line += fmt::format(" virtio_mmio.device=4K@{:#x}:{}:{}",
                          layout::kVirtioMmio + i * layout::kVirtioMmioSize, layout::kMmioGsis[i], i);
    }
  }
  if (!config.append.empty()) line += " " + config.append;
  return line;
}

}  // namespace vmm
