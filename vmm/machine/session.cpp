// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/session.h"

#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/chrono.h>
#include <fmt/core.h>

#include "vmm/core/log.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/diagnosis.h"
#include "vmm/machine/marks.h"

namespace vmm {

Result<std::unique_ptr<Session>> Session::create(const Config& config, Clock::time_point begin,
                                                 std::function<void(const std::string&)> say,
                                                 ControlProtocol protocol) {
  std::unique_ptr<Session> session{new Session{config, begin, std::move(say), std::move(protocol)}};
  VMM_TRY(session->open());
  return session;
}

Session::~Session() {
  if (machine_) machine_->stop();  // its devices stop on the loop
  stop_io();
}

void Session::stop_io() {
  if (!io_thread_.joinable()) return;
  io_loop_->stop();
  io_thread_.join();
}

Result<void> Session::open() {
  auto last = begin_;
  const auto phase = [&](const char* name) {
    const auto now = Clock::now();
    receipt_.phases.push_back({name, now - last, 0});
    last = now;
  };
  phase("program");  // exec, dynamic linking, configuration
  VMM_TRY_ASSIGN(system_, kvm::System::open());
  phase("kvm");
  if (config_.cpus > system_->max_vcpus()) {
    return fail("--cpus {}: this host's KVM gives a machine at most {}", config_.cpus, system_->max_vcpus());
  }
  VMM_TRY(check_pins());
  if (!config_.symbols.empty()) {
    VMM_TRY_ASSIGN(symbols_, firmware::SymbolTable::load(config_.symbols.string()));
  }
  if (!config_.trace.empty()) {
    VMM_TRY_ASSIGN(trace_, Trace::create(config_.trace, begin_));
  }
  kvm::Vcpu::install_kick_signal();
  VMM_TRY_ASSIGN(main_loop_, EventLoop::create(EventLoop::Engine::epoll));  // idle but for a few events
  VMM_TRY_ASSIGN(io_loop_, EventLoop::create());
  receipt_.engine = io_loop_->engine() == EventLoop::Engine::io_uring ? "io_uring" : "epoll";
  VMM_TRY(watch_signals());
  VMM_TRY_ASSIGN(watch_, ConsoleWatch::create(config_.expectations, [this](std::string_view text) {
                   backends_.watched->type(text);
                 }));
  VMM_TRY_ASSIGN(console_said_, EventFd::create());
  watches_.push_back(
      main_loop_->watch(console_said_->get(), EPOLLIN, [this](uint32_t) { handle_console(); }));

  const auto heard = [this](std::span<const std::byte> bytes) {
    if (watch_->append(bytes)) console_said_->signal();
  };
  const auto quit = [this] {
    main_loop_->post([this] { end({.kind = Outcome::Kind::quit, .status = 0, .detail = "Ctrl-A x"}); });
  };
  VMM_TRY_ASSIGN(backends_, Backends::open(config_, *io_loop_, heard, quit));
  VMM_TRY(arm_timers());
  VMM_TRY(open_control());
  phase("backends");
  return {};
}

Result<void> Session::check_pins() const {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (config_.pins.empty() || ::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return {};
  for (const uint32_t cpu : config_.pins) {
    if (CPU_ISSET(cpu, &allowed)) continue;
    return fail(
        "--cpus pin={}: no CPU of this host that vmm may run on; it may use {} of them, see taskset -p $$",
        cpu, CPU_COUNT(&allowed));
  }
  return {};
}

Result<void> Session::open_control() {
  VMM_TRY_ASSIGN(const auto path, make_control_path(config_));
  if (path.empty()) return {};
  VMM_TRY_ASSIGN(memory_unanswered_,
                 Timer::create(*main_loop_, [this] { handle_memory(machine_->memory()); }));
  VMM_TRY_ASSIGN(control_,
                 LineServer::create(*main_loop_, path, "control socket",
                                    [this](std::string_view request, const LineServer::Answer& answer) {
                                      protocol_(*this, request, answer);
                                    }));
  return {};
}

// Signals come by a descriptor, on the main thread, where anything may be done about them. Threads that are
// made later inherit the mask.
Result<void> Session::watch_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGWINCH, SIGCONT}) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  signals_ = Fd{::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!signals_) return fail(errno, "watch for signals");
  watches_.push_back(main_loop_->watch(signals_.get(), EPOLLIN, [this](uint32_t) { handle_signal(); }));
  return {};
}

Result<void> Session::arm_timers() {
  if (config_.timeout.count() > 0) {
    VMM_TRY_ASSIGN(timeout_, Timer::create(*main_loop_, [this] {
                     auto detail = fmt::format("not done after {}", config_.timeout);
                     if (!watch_->all_met())
                       detail += fmt::format(", waiting for \"{}\"", watch_->waiting_for());
                     end({.kind = Outcome::Kind::timeout, .status = 0, .detail = std::move(detail)});
                   }));
    timeout_->arm(config_.timeout);
  }
  if (config_.silence.count() > 0) {
    VMM_TRY_ASSIGN(silence_, Timer::create(*main_loop_, [this] { handle_silence(); }));
    silence_->arm(config_.silence);
  }
  return {};
}

Result<Receipt> Session::run() {
  while (true) {
    // Events come from vCPU threads: they are handled, later, on this one.
    const Machine::Events events{
        .ended =
            [this, generation = receipt_.resets](const Outcome& outcome) {
              main_loop_->post([this, generation, outcome] {
                if (generation == receipt_.resets)
                  end(outcome);  // else a late word of the machine before this
              });
            },
        .marked =
            [this](uint8_t mark) {
              if (trace_) trace_->instant(mark_name(mark), Clock::now());
              main_loop_->post([this, mark, when = since_begin()] { note_mark(mark, when); });
            },
        .first_run =
            [this] {
              if (!first_run_seen_.exchange(true)) receipt_.first_instruction = since_begin();
            }};
    const Machine::Host host{*system_, *io_loop_, backends_, trace_.get(), symbols_ ? &*symbols_ : nullptr};
    const bool first = receipt_.resets == 0;
    std::vector<Receipt::Phase> phases;
    VMM_TRY_ASSIGN(machine_, Machine::create(config_, host, events, phases));
    const auto built = since_begin();
    if (first) std::ranges::move(phases, std::back_inserter(receipt_.phases));
    if (memory_target_) VMM_TRY(machine_->set_memory(*memory_target_));

    // The I/O loop is at rest while a machine is put together or taken apart.
    io_thread_ = std::thread{[this] {
      ::pthread_setname_np(::pthread_self(), "io");
      io_loop_->run();
    }};
    machine_->start();
    main_loop_->run();
    machine_->stop();
    stop_io();
    if (first) receipt_.phases.push_back({"threads", receipt_.first_instruction - built, 0});
    machine_->report(receipt_);
    machine_.reset();

    const bool restart = outcome_->kind == Outcome::Kind::reset && config_.reboot;
    if (!restart) break;
    log(LogLevel::info, "machine: {}, restarting", outcome_->detail);
    ++receipt_.resets;
    outcome_.reset();
  }

  auto outcome = *outcome_;
  handle_console();  // what the guest said last
  const bool guest_ended = outcome.kind == Outcome::Kind::power_off || outcome.kind == Outcome::Kind::reset;
  if (watch_->scripted() && watch_->all_met() && guest_ended) {
    outcome.kind = Outcome::Kind::expectations_met;
  } else if (!watch_->all_met() && guest_ended) {
    outcome = {.kind = Outcome::Kind::expectation_unmet,
               .status = 0,
               .detail = fmt::format("the guest ended ({}) and never said \"{}\"", outcome.detail,
                                     watch_->waiting_for())};
  }
  receipt_.outcome = std::move(outcome);
  add_session(receipt_);
  return std::move(receipt_);
}

void Session::end(Outcome outcome) {
  if (outcome_) return;
  outcome_ = std::move(outcome);
  main_loop_->stop();
}

void Session::handle_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const auto number = static_cast<int>(info.ssi_signo);
    if (number == SIGWINCH || number == SIGCONT) {
      if (backends_.terminal == nullptr) continue;
      if (number == SIGCONT) backends_.terminal->continued();
      backends_.terminal->window_changed();
      continue;
    }
    if (!asked_to_power_off_ && machine_) {
      asked_to_power_off_ = true;
      say_(fmt::format("{}: asking the guest to power off; a second one stops it", ::strsignal(number)));
      if (const auto pressed = press_power_button(); !pressed) {
        log(LogLevel::warning, "{}", pressed.error().message);
      }
      continue;
    }
    end({.kind = Outcome::Kind::signal,
         .status = static_cast<uint8_t>(number),
         .detail = fmt::format("stopped by {}", ::strsignal(number))});
  }
}

void Session::handle_console() {
  [[maybe_unused]] const bool said = console_said_->drain();
  for (const auto& met : watch_->match()) receipt_.met.push_back({met.pattern, since_begin()});
  if (watch_->scripted() && watch_->all_met()) {
    end({.kind = Outcome::Kind::expectations_met, .status = 0, .detail = "every expectation was met"});
  }
}

Receipt Session::receipt_so_far() const {
  auto receipt = receipt_;
  machine_->report(receipt);
  add_session(receipt);
  return receipt;
}

// What machines do not know: they come and go with resets.
void Session::add_session(Receipt& receipt) const {
  const auto add_console = [&receipt](const char* name, const backend::ObservedConsole& console) {
    receipt.traffic.push_back({name, console.bytes_in(), console.bytes_out()});
  };
  add_console("serial", *backends_.serial);
  if (backends_.virtio_console) add_console("console", *backends_.virtio_console);
  receipt.wall = since_begin();
  receipt.cpu_vmm = process_cpu_time() - receipt.cpu_guest;
}

void Session::note_mark(uint8_t mark, Receipt::Nanoseconds when) {
  user_space_seen_ |= mark >= kMarkInit;
  constexpr size_t kMost = 1024;  // a guest that resets itself for ever makes some each time
  if (receipt_.marks.size() < kMost) {
    receipt_.marks.push_back({mark_name(mark), when});
  } else {
    ++receipt_.marks_dropped;
  }
}

void Session::ask_memory(std::function<void(const MemoryReport&)> done) {
  ask_memory_.push_back(std::move(done));
  if (ask_memory_.size() > 1) return;  // asked already: one answer serves all
  constexpr std::chrono::milliseconds kPatience{500};
  memory_unanswered_->arm(kPatience);
  machine_->ask_memory(
      [this](const MemoryReport& report) { main_loop_->post([this, report] { handle_memory(report); }); });
}

void Session::handle_memory(const MemoryReport& report) {
  memory_unanswered_->disarm();
  for (const auto& done : std::exchange(ask_memory_, {})) done(report);
}

Result<void> Session::set_memory(uint64_t bytes) {
  VMM_TRY(machine_->set_memory(bytes));
  memory_target_ = bytes;
  return {};
}

Result<void> Session::resize_disk(std::string_view disk, uint64_t bytes) {
  VMM_TRY_ASSIGN(const auto index, find_disk(disk, config_.disks.size()));
  return machine_->resize_disk(index, bytes);
}

Result<void> Session::press_power_button() {
  if (machine_->press_power_button()) return {};
  return fail("power button: the guest does not listen to it (yet)");
}

void Session::quit(std::string_view who) {
  end({.kind = Outcome::Kind::quit, .status = 0, .detail = std::string{who}});
}

// Once a run: a guest that has come to user space, or to a prompt, may be as silent as it likes.
void Session::handle_silence() {
  if (user_space_seen_ || !machine_ || looks_like_prompt(watch_->last_lines(1))) return;
  const auto last = watch_->last_output();
  const auto begin = last == Clock::time_point{} ? begin_ + receipt_.first_instruction : last;
  const auto quiet = Clock::now() - begin;
  if (quiet < config_.silence) {
    silence_->arm(config_.silence - quiet);
    return;
  }
  Receipt so_far;
  machine_->report(so_far);
  const auto length = std::chrono::duration_cast<std::chrono::milliseconds>(quiet);
  for (const auto& line :
       diagnose_silence({config_, length, watch_->last_lines(40), machine_->describe_vcpus(), so_far})) {
    say_(line);
  }
}

}  // namespace vmm
