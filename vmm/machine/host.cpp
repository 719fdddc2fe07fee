// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/host.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fmt/core.h>

#include "vmm/core/event_loop.h"
#include "vmm/core/fd.h"
#include "vmm/kvm/system.h"

namespace vmm {
namespace {

using Verdict = HostReport::Verdict;
using Finding = HostReport::Finding;

struct CpuFlags {
  bool virtualization = false;  // vmx or svm
  bool inside_vm = false;       // hypervisor
};

CpuFlags cpu_flags() {
  CpuFlags flags;
  std::ifstream cpuinfo{"/proc/cpuinfo"};
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words{line};
    for (std::string word; words >> word;) {
      flags.virtualization |= word == "vmx" || word == "svm";
      flags.inside_vm |= word == "hypervisor";
    }
    break;
  }
  return flags;
}

constexpr std::string_view kLab =
    "Linux guests boot in the lab meanwhile: tools/lab -- vmm … (a software machine with AMD-V)";

Finding explain_missing_device(const CpuFlags& cpu) {
  if (cpu.virtualization) {
    return {
        "/dev/kvm", Verdict::bad, "there is no such device, though the CPU has virtualization",
        "modprobe kvm_intel or kvm_amd; if that is refused, enable VT-x or SVM in the firmware's setup; in a "
        "container, pass the device in"};
  }
  if (cpu.inside_vm) {
    return {"/dev/kvm", Verdict::bad,
            "there is no such device: this is a virtual machine without nested virtualization",
            fmt::format(
                "switch nested virtualization on at the host (kvm_intel.nested=1 or kvm_amd.nested=1, and a "
                "CPU model that shows vmx or svm). {}",
                kLab)};
  }
  return {"/dev/kvm", Verdict::bad, "there is no such device, and the CPU shows neither vmx nor svm",
          fmt::format("enable VT-x or SVM in the firmware's setup. {}", kLab)};
}

Finding explain_forbidden() {
  struct stat info{};
  ::stat("/dev/kvm", &info);
  return {
      "/dev/kvm", Verdict::bad,
      fmt::format("permission denied: owner {}, group {}, mode {:o}, and this is user {}", info.st_uid,
                  info.st_gid, info.st_mode & 0777, ::geteuid()),
      "join the device's group (usermod -aG kvm USER) and log in again; where it has no group of its own: "
      "chgrp kvm /dev/kvm && chmod 660 /dev/kvm"};
}

void examine_kvm(HostReport& report) {
  const auto cpu = cpu_flags();
  const Fd device{::open("/dev/kvm", O_RDWR | O_CLOEXEC)};
  if (!device) {
    switch (errno) {
      case ENOENT:
      case ENODEV:
      case ENXIO:
        report.findings.push_back(explain_missing_device(cpu));
        break;
      case EACCES:
      case EPERM:
        report.findings.push_back(explain_forbidden());
        break;
      default:
        report.findings.push_back(
            {"/dev/kvm", Verdict::bad, std::strerror(errno), "see dmesg for what kvm says"});
    }
    return;
  }
  const auto system = kvm::System::open();
  if (!system) {
    report.findings.push_back(
        {"/dev/kvm", Verdict::bad, system.error().message, "use a newer kernel on the host"});
    return;
  }
  if (cpu.virtualization) {
    report.kind = HostReport::Kind::hardware;
    report.findings.push_back({"/dev/kvm", Verdict::good, "works, on hardware virtualization", ""});
  } else {
    report.kind = HostReport::Kind::emulating;
    report.findings.push_back({"/dev/kvm", Verdict::bad,
                               "works, but the CPU shows neither vmx nor svm: this KVM emulates kernel mode. "
                               "Bare-metal payloads run; Linux does not boot",
                               std::string{kLab}});
  }
  report.findings.push_back(
      {"vCPUs", Verdict::good, fmt::format("at most {} a machine", system->max_vcpus()), ""});
  for (const auto& capability : kvm::capabilities()) {
    const bool there = system->check(capability.number) > 0;
    report.findings.push_back({fmt::format("KVM_CAP_{}", capability.name),
                               there ? Verdict::good : Verdict::missing_optional,
                               fmt::format("{}: {}", there ? "there" : "not there", capability.purpose), ""});
  }
}

void examine_io(HostReport& report) {
  const auto ring = EventLoop::create(EventLoop::Engine::io_uring);
  report.findings.push_back(
      ring ? Finding{"io_uring", Verdict::good, "allowed", ""}
           : Finding{"io_uring", Verdict::missing_optional,
                     ring.error().message + "; disks work, a request at a time",
                     "sysctl kernel.io_uring_disabled=0, or allow it in the container's seccomp profile"});
  const Fd tun{::open("/dev/net/tun", O_RDWR | O_CLOEXEC)};
  report.findings.push_back(
      tun ? Finding{"/dev/net/tun", Verdict::good, "there: --net tap=NAME can work", ""}
          : Finding{"/dev/net/tun", Verdict::missing_optional,
                    fmt::format("{}: --net tap=NAME cannot work, --net user can", std::strerror(errno)),
                    "modprobe tun; in a container, pass the device in"});
  const Fd vhost{::open("/dev/vhost-net", O_RDWR | O_CLOEXEC)};
  report.findings.push_back(
      vhost ? Finding{"/dev/vhost-net", Verdict::good, "there: --net tap=NAME,vhost can work", ""}
            : Finding{"/dev/vhost-net", Verdict::missing_optional,
                      fmt::format("{}: --net tap=NAME cannot have vhost, and works without",
                                  std::strerror(errno)),
                      "modprobe vhost_net; in a container, pass the device in"});
}

}  // namespace

std::string_view to_string(HostReport::Kind kind) {
  switch (kind) {
    case HostReport::Kind::hardware:
      return "hardware";
    case HostReport::Kind::emulating:
      return "emulating";
    case HostReport::Kind::unusable:
      break;
  }
  return "unusable";
}

HostReport examine_host() {
  HostReport report;
  examine_kvm(report);
  examine_io(report);
  return report;
}

}  // namespace vmm
