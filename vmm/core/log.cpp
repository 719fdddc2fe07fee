// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/log.h"

#include <unistd.h>

#include <iterator>

namespace vmm {
namespace {

// The level is the one process-wide setting: it is written before threads start and only read afterwards.
std::atomic<LogLevel> g_level{LogLevel::warning};

constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};

}  // namespace

void set_log_level(LogLevel level) {
  g_level.store(level, std::memory_order_relaxed);
}

LogLevel log_level() {
  return g_level.load(std::memory_order_relaxed);
}

std::optional<LogLevel> parse_log_level(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == name) return LogLevel{static_cast<uint8_t>(i)};
  }
  return std::nullopt;
}

std::string_view log_level_name(LogLevel level) {
  return kNames[static_cast<uint8_t>(level)];
}

void log_line(LogLevel level, std::string_view text) {
  // A terminal in raw mode does not return the carriage on a line feed.
  const std::string_view end = ::isatty(STDERR_FILENO) == 1 ? "\r\n" : "\n";
  const auto out = fmt::format("vmm: {}: {}{}", log_level_name(level), text, end);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, out.data(), out.size());
}

}  // namespace vmm
