// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>

#include <fmt/core.h>

#include "vmm/cli/config_file.h"
#include "vmm/cli/control.h"
#include "vmm/cli/options.h"
#include "vmm/cli/report_text.h"
#include "vmm/core/fd.h"
#include "vmm/core/log.h"
#include "vmm/machine/host.h"
#include "vmm/machine/session.h"

namespace vmm::cli {
namespace {

constexpr int kHostFailure = 1;
constexpr int kUsage = 2;

Result<void> write_file(const std::filesystem::path& path, const std::string& text) {
  const Fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (!file) return fail(errno, "write the receipt to {}", path.string());
  for (size_t done = 0; done < text.size();) {
    const auto wrote = ::write(file.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno != EINTR) return fail(errno, "write the receipt to {}", path.string());
    if (wrote > 0) done += static_cast<size_t>(wrote);
  }
  return {};
}

int report_error(const Error& error, int code) {
  log_line(LogLevel::error, error.message);
  return code;
}

int doctor(bool json) {
  const auto report = examine_host();
  fmt::print("{}", json ? host_json(report) : host_text(report));
  return report.kind == HostReport::Kind::hardware ? 0 : kHostFailure;
}

// What a person wants to know of an end that was not the guest's power-off.
void explain_end(const Receipt& receipt, const std::string& last_lines) {
  const auto kind = receipt.outcome.kind;
  if (exit_code(receipt.outcome) == 0 || kind == Outcome::Kind::debug_exit) return;
  log_line(LogLevel::error, fmt::format("{}: {}", outcome_name(kind), receipt.outcome.detail));
  if (kind != Outcome::Kind::timeout && kind != Outcome::Kind::expectation_unmet) return;
  if (last_lines.empty()) {
    fmt::print(stderr, "the console never said a word\n");
  } else {
    fmt::print(stderr, "the last lines of the console:\n{}\n", last_lines);
  }
}

// A stack of the usual 8 MiB begins with a huge page where the host gives them unasked, and no thread of ours
// needs more than a few pages.
void limit_thread_stacks() {
  constexpr size_t kThreadStack = 512U << 10;
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return;
  ::pthread_attr_setstacksize(&attributes, kThreadStack);
  ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
}

int run(const Config& config, std::chrono::steady_clock::time_point begin) {
  limit_thread_stacks();
  const auto say = [](const std::string& line) { log_line(LogLevel::warning, line); };
  constexpr size_t kLastLines = 20;
  Receipt receipt;
  std::string last_lines;
  {
    auto session = Session::create(config, begin, say, answer_control);
    if (!session) return report_error(session.error(), kHostFailure);
    auto result = (*session)->run();
    if (!result) return report_error(result.error(), kHostFailure);
    receipt = std::move(*result);
    last_lines = (*session)->last_console_lines(kLastLines);
  }  // the terminal is as it was
  explain_end(receipt, last_lines);
  if (::isatty(STDERR_FILENO) == 1) fmt::print(stderr, "{}", receipt_text(receipt));
  if (!config.stats.empty()) {
    if (const auto written = write_file(config.stats, receipt_json(receipt)); !written) {
      return report_error(written.error(), kHostFailure);
    }
  }
  return exit_code(receipt.outcome);
}

int main_without_net(std::span<const char* const> arguments, std::chrono::steady_clock::time_point begin) {
  const auto command = parse_command_line(arguments);
  if (!command) return report_error(command.error(), kUsage);
  switch (command->kind) {
    case Command::Kind::print_text:
      fmt::print("{}", command->text);
      return 0;
    case Command::Kind::print_config:
      fmt::print("{}", write_config(command->config));
      return 0;
    case Command::Kind::doctor:
      return doctor(command->json);
    case Command::Kind::control: {
      const auto told = control(command->request);
      if (!told) return report_error(told.error(), kHostFailure);
      fmt::print("{}", *told);
      return 0;
    }
    case Command::Kind::run:
      break;
  }
  set_log_level(command->config.log);
  return run(command->config, begin);
}

}  // namespace
}  // namespace vmm::cli

int main(int argc, char** argv) {
  // Exec and dynamic linking lie behind us: what they took of the CPU counts, too.
  const auto begin = std::chrono::steady_clock::now() - vmm::process_cpu_time();
  try {
    return vmm::cli::main_without_net({argv, static_cast<size_t>(argc)}, begin);
  } catch (const std::system_error& error) {  // the only one of ours: std::thread's
    fmt::print(stderr,
               "vmm: error: start a thread: {}; raise ulimit -u or the pids limit of the container, or give "
               "fewer --cpus\n",
               error.code().message());
    return 1;
  } catch (const std::exception& error) {  // memory ran out, or a bug of ours
    fmt::print(stderr, "vmm: error: {}\n", error.what());
    return 1;
  }
}
