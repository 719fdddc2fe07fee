// SPDX-License-Identifier: Apache-2.0
//
// Messages for the person who runs the VMM, on standard error: "subject: value, consequence". A guest can
// cause many of them, so what a guest can repeat goes through a LogLimit.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include <fmt/core.h>

namespace vmm {

enum class LogLevel : uint8_t { error, warning, info, debug };

// Set once by the command line before any thread starts.
void set_log_level(LogLevel level);
[[nodiscard]] LogLevel log_level();
[[nodiscard]] std::optional<LogLevel> parse_log_level(std::string_view name);
[[nodiscard]] std::string_view log_level_name(LogLevel level);

// One line, one write(2): lines of several threads do not mix.
void log_line(LogLevel level, std::string_view text);

template <typename... Args>
[[gnu::cold]] void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (level <= log_level()) log_line(level, fmt::vformat(format, fmt::make_format_args(args...)));
}

// Lets the first few messages of one kind through and counts the rest.
class LogLimit {
 public:
  explicit LogLimit(uint32_t most) : most_(most) {}
  [[nodiscard]] bool pass() { return seen_.fetch_add(1, std::memory_order_relaxed) < most_; }
  [[nodiscard]] uint64_t seen() const { return seen_.load(std::memory_order_relaxed); }

 private:
  const uint32_t most_;
  std::atomic<uint64_t> seen_{0};
};

}  // namespace vmm
