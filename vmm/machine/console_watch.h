// SPDX-License-Identifier: Apache-2.0
//
// Watches what the guest says on its console: keeps the last of it for reports, matches the expectations of a
// scripted boot in their order, and types their answers.
#pragma once

#include <regex.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.h"
#include "vmm/machine/config.h"

namespace vmm {

// A POSIX extended regular expression with one owner.
class Pattern {
 public:
  static Result<Pattern> create(const std::string& expression);
  Pattern(Pattern&& other) noexcept : regex_(std::exchange(other.regex_, nullptr)) {}
  Pattern& operator=(Pattern&&) = delete;
  ~Pattern();
  // Where the first match in `text` ends; npos if there is none. Whether the text begins a line is for ^.
  [[nodiscard]] size_t match_end(const char* text, bool begins_line) const;

 private:
  explicit Pattern(regex_t* regex) : regex_(regex) {}
  regex_t* regex_;
};

class ConsoleWatch {
 public:
  using Clock = std::chrono::steady_clock;
  struct Step {
    Expectation expectation;
    Pattern pattern;
  };

  // Fails on an expression that is none. `type` types text to the guest and is called from match().
  static Result<std::unique_ptr<ConsoleWatch>> create(std::span<const Expectation> expectations,
                                                      std::function<void(std::string_view)> type);

  // Output of the guest; any thread. True if match() has something to do.
  bool append(std::span<const std::byte> bytes);

  // Matches what has come since. Returns the expectations newly met.
  std::vector<Expectation> match();
  [[nodiscard]] bool all_met() const { return next_ == steps_.size(); }
  [[nodiscard]] bool scripted() const { return !steps_.empty(); }
  // The expression that is waited for; empty if none.
  [[nodiscard]] std::string_view waiting_for() const;

  [[nodiscard]] std::string last_lines(size_t count) const;
  [[nodiscard]] Clock::time_point last_output() const;  // the epoch: nothing yet
  [[nodiscard]] uint64_t bytes() const;

 private:
  static constexpr size_t kKept = size_t{256} * 1024;
  // What a match may span. What lies before has been looked at, and is not looked at again for each byte
  // more.
  static constexpr size_t kMostLines = 16;
  static constexpr size_t kMostBytes = size_t{8} * 1024;
  ConsoleWatch(std::vector<Step> steps, std::function<void(std::string_view)> type)
      : steps_(std::move(steps)), type_(std::move(type)) {}

  [[nodiscard]] size_t begin_of_last(size_t count, size_t least) const;  // with mutex_ held

  const std::vector<Step> steps_;
  const std::function<void(std::string_view)> type_;
  size_t next_ = 0;  // the main thread's

  mutable std::mutex mutex_;
  std::string text_;    // guarded by mutex_: the last kKept bytes, without NUL and CR
  size_t matched_ = 0;  // guarded by mutex_: nothing that begins before is to be matched any more
  uint64_t bytes_ = 0;  // guarded by mutex_
  Clock::time_point last_output_{};  // guarded by mutex_
};

}  // namespace vmm
