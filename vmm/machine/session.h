// SPDX-License-Identifier: Apache-2.0
//
// One run of the program: backends, the I/O thread, and machine after machine until the guest, the user or a
// deadline ends it. The main thread waits here; it alone decides.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "vmm/core/event_loop.h"
#include "vmm/core/result.h"
#include "vmm/kvm/system.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/config.h"
#include "vmm/machine/console_watch.h"
#include "vmm/machine/controls.h"
#include "vmm/machine/line_server.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/outcome.h"
#include "vmm/machine/receipt.h"
#include "vmm/machine/trace.h"

namespace vmm {

class Session final : public Controls {
 public:
  using Clock = std::chrono::steady_clock;

  // `begin`: when the process started, from which the receipt counts. `say` prints a line for the user.
  // `protocol` answers at the control socket, if the configuration has one. Blocks the signals it handles, so
  // it comes before any thread.
  static Result<std::unique_ptr<Session>> create(const Config& config, Clock::time_point begin,
                                                 std::function<void(const std::string&)> say,
                                                 ControlProtocol protocol);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Returns the receipt, with the outcome in it. Fails if the machine could not be built.
  Result<Receipt> run();

  [[nodiscard]] Receipt receipt_so_far() const override;
  void ask_memory(std::function<void(const MemoryReport&)> done) override;
  Result<void> set_memory(uint64_t bytes) override;
  Result<void> resize_disk(std::string_view disk, uint64_t bytes) override;
  Result<void> press_power_button() override;
  void quit(std::string_view who) override;

  // The last of what the guest said on its console.
  [[nodiscard]] std::string last_console_lines(size_t count) const { return watch_->last_lines(count); }

 private:
  Session(const Config& config, Clock::time_point begin, std::function<void(const std::string&)> say,
          ControlProtocol protocol)
      : config_(config), begin_(begin), say_(std::move(say)), protocol_(std::move(protocol)) {}
  Result<void> open();
  [[nodiscard]] Result<void> check_pins() const;  // the host has the CPUs of --cpus pin=
  Result<void> watch_signals();
  Result<void> arm_timers();
  Result<void> open_control();
  void stop_io();

  // The main thread's handlers.
  void handle_signal();
  void handle_console();
  void handle_silence();
  void handle_memory(const MemoryReport& report);
  void end(Outcome outcome);  // the first one counts
  void note_mark(uint8_t mark, Receipt::Nanoseconds when);
  void add_session(Receipt& receipt) const;

  [[nodiscard]] Receipt::Nanoseconds since_begin() const { return Clock::now() - begin_; }

  const Config config_;
  const Clock::time_point begin_;
  const std::function<void(const std::string&)> say_;
  const ControlProtocol protocol_;
  Receipt receipt_;
  std::optional<Outcome> outcome_;
  bool asked_to_power_off_ = false;
  bool user_space_seen_ = false;
  std::atomic<bool> first_run_seen_{false};
  std::atomic<bool> typed_{false};

  std::optional<kvm::System> system_;
  std::optional<firmware::SymbolTable> symbols_;
  std::unique_ptr<ConsoleWatch> watch_;
  // Loops outlive what watches on them: backends, timers, machine.
  std::unique_ptr<EventLoop> main_loop_;
  std::unique_ptr<EventLoop> io_loop_;
  std::unique_ptr<Trace> trace_;
  Backends backends_;
  std::optional<EventFd> console_said_;
  Fd signals_;
  std::vector<EventLoop::Watch> watches_;
  std::optional<Timer> timeout_;
  std::optional<Timer> silence_;
  std::optional<Timer> memory_unanswered_;
  std::vector<std::function<void(const MemoryReport&)>> ask_memory_;  // who waits for the guest to answer
  std::optional<uint64_t> memory_target_;
  std::unique_ptr<LineServer> control_;
  std::unique_ptr<Machine> machine_;
  std::thread io_thread_;
};

}  // namespace vmm
