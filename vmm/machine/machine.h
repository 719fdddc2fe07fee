// SPDX-License-Identifier: Apache-2.0
//
// The composition root: builds a whole machine from a configuration and runs its vCPUs. It is never itself a
// device and is never called by an exit; a device that wants the machine to end posts to the PowerSink that
// the machine was given. A reset is a new Machine on the same backends, so that nothing survives by accident.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "firmware/symbols.h"
#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"
#include "vmm/kvm/system.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/config.h"
#include "vmm/machine/controls.h"
#include "vmm/machine/outcome.h"
#include "vmm/machine/receipt.h"
#include "vmm/machine/trace.h"

namespace vmm {

class Machine {
 public:
  // What the machine tells, each from any thread.
  struct Events {
    std::function<void(Outcome)> ended;   // power-off, reset, panic, failure: stop() is due
    std::function<void(uint8_t)> marked;  // the guest wrote the marker port
    std::function<void()> first_run;      // the first instruction is about to run
  };
  struct Host {
    const kvm::System& system;
    EventLoop& loop;  // the devices'; runs on a thread of its own from before start() to after stop()
    Backends& backends;
    Trace* trace = nullptr;                          // none: nothing is traced
    const firmware::SymbolTable* symbols = nullptr;  // names addresses in diagnostics; none: numbers
  };

  // Everything up to the first instruction. `phases` gets the time of each step.
  static Result<std::unique_ptr<Machine>> create(const Config& config, const Host& host, Events events,
                                                 std::vector<Receipt::Phase>& phases);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void start();
  // Takes the vCPUs out of the guest for good and resets the devices; returns when both is done.
  void stop();

  [[nodiscard]] bool press_power_button();  // true if the guest listens to it

  // What the guest is asked to keep of its memory; any thread. Fails if that is more than there is, too
  // little, or not to be had.
  Result<void> set_memory(uint64_t bytes);
  // Makes a disk of the configuration larger, and tells the guest; any thread.
  Result<void> resize_disk(size_t index, uint64_t bytes);
  // Calls `done`, on the I/O loop's thread, when the guest has told its statistics; perhaps never.
  void ask_memory(std::function<void(const MemoryReport&)> done) const;
  [[nodiscard]] MemoryReport memory() const;  // without the guest's statistics

  // What KVM's exits, the devices and the memory say so far: added to `receipt`.
  void report(Receipt& receipt) const;

  // Where each vCPU is, a line each, for a person; takes them out of the guest for a moment.
  [[nodiscard]] std::vector<std::string> describe_vcpus();

 private:
  struct Parts;
  explicit Machine(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace vmm
