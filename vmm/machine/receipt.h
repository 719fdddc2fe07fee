// SPDX-License-Identifier: Apache-2.0
//
// What a run cost: the figures of the receipt. Times count from the start of the process.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/machine/outcome.h"

namespace vmm {

struct Receipt {
  using Nanoseconds = std::chrono::nanoseconds;

  struct Mark {  // a byte at the marker port
    std::string name;
    Nanoseconds at{};
  };
  struct Met {  // an expectation
    std::string pattern;
    Nanoseconds at{};
  };
  struct Phase {  // a step before the first instruction
    std::string name;
    Nanoseconds duration{};
    uint64_t bytes = 0;
  };
  struct Exits {
    std::string reason;
    uint64_t count = 0;
  };
  struct Accesses {  // by the device they went to; writes that KVM coalesced are among them, and are no exits
    std::string space;  // "port" or "mmio"
    std::string device;
    uint64_t reads = 0;
    uint64_t writes = 0;
  };
  struct Traffic {
    std::string device;
    uint64_t in = 0;   // bytes to the guest
    uint64_t out = 0;  // bytes from the guest
  };
  struct Counter {
    std::string name;
    uint64_t value = 0;
  };

  Outcome outcome;
  uint32_t resets = 0;  // of the machine, in place
  std::string kernel;   // what the loader made of the file
  std::string engine;   // of the I/O loop

  Nanoseconds first_instruction{};
  Nanoseconds wall{};
  Nanoseconds cpu_guest{};  // of the vCPU threads
  Nanoseconds cpu_vmm{};    // of all others
  std::vector<Phase> phases;
  std::vector<Mark> marks;
  uint64_t marks_dropped = 0;  // beyond what is kept
  std::vector<Met> met;

  std::vector<Exits> exits;  // to user space
  std::vector<Accesses> accesses;
  std::vector<Traffic> traffic;  // disks, networks, consoles
  uint64_t interrupts = 0;       // that devices asked for, less those of vhost, which only the kernel sees

  uint64_t memory_size = 0;      // bytes of guest RAM
  uint64_t memory_touched = 0;   // of it, bytes that the host gave pages for
  uint64_t memory_reported = 0;  // bytes that the guest had free and the host took back, each time
  uint64_t memory_vmm = 0;       // bytes of this process beside guest RAM, its share of what others have, too
  uint64_t memory_program = 0;   // of them, the program's file and its libraries'
  uint64_t memory_heap = 0;      // and the heap's; the rest is stacks, buffers and rings
  std::vector<Counter> kvm;      // KVM's own, of the VM and all vCPUs together; empty where the host has none
};

// CPU time of the whole process so far.
[[nodiscard]] std::chrono::nanoseconds process_cpu_time();

}  // namespace vmm
