// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/diagnosis.h"

#include <algorithm>
#include <array>

#include <fmt/core.h>

namespace vmm {
namespace {

struct Symptom {
  std::string_view said;
  std::string_view cause;
  std::string_view remedy;
};

// What kernels and initramfs programs print when they stop.
constexpr std::array kSymptoms = {
    Symptom{"Unable to mount root fs", "the kernel found no root file system that it can read",
            "check root= and rootfstype=, and that this kernel has the disk's and the file system's driver "
            "built in "
            "or in an --initrd"},
    Symptom{"Cannot open root device", "the kernel has no driver for the disk, or root= names another device",
            "give an --initrd with the virtio modules, or a kernel that has them built in"},
    Symptom{"Waiting for root device", "the root device never appeared: no driver for it, or root= is wrong",
            "the first disk is /dev/vda; check --disk and root=, and that the kernel has virtio_blk"},
    Symptom{"waiting for root", "the root device never appeared: no driver for it, or root= is wrong",
            "the first disk is /dev/vda; check --disk and root="},
    Symptom{"No working init found", "the root file system has no init that runs",
            "check init= and that the image is a root file system for x86-64"},
    Symptom{"Kernel panic", "the guest's kernel panicked", "its last lines are above"},
    Symptom{"Out of memory", "the guest has too little memory", "give it more with --memory"},
    Symptom{"No bootable", "the kernel found nothing to boot", "check --kernel and --disk"},
};

void add_busiest(const Receipt& receipt, std::vector<std::string>& lines) {
  uint64_t total = 0;
  for (const auto& exits : receipt.exits) total += exits.count;
  const auto busiest = std::ranges::max_element(
      receipt.accesses, {}, [](const auto& accesses) { return accesses.reads + accesses.writes; });
  if (busiest == receipt.accesses.end() || total == 0) return;
  const uint64_t count = busiest->reads + busiest->writes;
  lines.push_back(fmt::format("  exits to user space: {}; most of them at {} {}: {} reads, {} writes", total,
                              busiest->space, busiest->device, busiest->reads, busiest->writes));
  if (count > 10000 && count > total / 10 * 9) {
    lines.push_back(fmt::format("  likely cause: the guest loops on {}", busiest->device));
    lines.push_back("  try: a kernel for a PC without that device, or one with drivers for virtio");
  }
}

bool console_is_elsewhere(const Config& config) {
  return config.cmdline && config.cmdline->find("console=ttyS0") == std::string::npos;
}

}  // namespace

std::vector<std::string> diagnose_silence(const Silence& silence) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("no console output for {:.3g} s; this is where the guest is:",
                              static_cast<double>(silence.length.count()) / 1000));
  for (const auto& vcpu : silence.vcpus) lines.push_back("  " + vcpu);
  add_busiest(silence.receipt, lines);

  const auto symptom = std::ranges::find_if(
      kSymptoms, [&](const auto& s) { return silence.last_lines.find(s.said) != std::string::npos; });
  if (symptom != kSymptoms.end()) {
    lines.push_back(fmt::format("  likely cause: {}", symptom->cause));
    lines.push_back(fmt::format("  try: {}", symptom->remedy));
  } else if (silence.last_lines.empty() && console_is_elsewhere(silence.config)) {
    lines.push_back("  likely cause: --cmdline has no console=ttyS0, so messages go elsewhere");
    lines.push_back("  try: add console=ttyS0, or use --append and keep the default command line");
  } else if (silence.last_lines.empty()) {
    lines.push_back("  likely cause: the kernel stopped before it had a console, or does not use ttyS0");
    lines.push_back("  try: --append \"earlyprintk=ttyS0 ignore_loglevel\" to see its first messages");
  } else {
    lines.push_back("  likely cause: none that its last lines betray");
    lines.push_back(
        "  try: --append \"ignore_loglevel\" to see all messages, or --symbols vmlinux to name the "
        "addresses");
  }
  return lines;
}

bool looks_like_prompt(std::string_view last_line) {
  constexpr std::array<std::string_view, 6> kEnds = {"login: ", "# ", "$ ", "> ", "assword: ", ": "};
  return std::ranges::any_of(kEnds, [&](auto end) { return last_line.ends_with(end); });
}

}  // namespace vmm
