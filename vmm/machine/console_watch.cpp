// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/console_watch.h"

#include <algorithm>

namespace vmm {

Result<Pattern> Pattern::create(const std::string& expression) {
  Pattern pattern{new regex_t{}};
  const int error = ::regcomp(pattern.regex_, expression.c_str(), REG_EXTENDED | REG_NEWLINE);
  if (error == 0) return pattern;
  char why[128];
  ::regerror(error, pattern.regex_, why, sizeof why);
  delete std::exchange(pattern.regex_, nullptr);
  return fail("\"{}\" is not an extended regular expression: {}", expression, why);
}

Pattern::~Pattern() {
  if (regex_ == nullptr) return;
  ::regfree(regex_);
  delete regex_;
}

size_t Pattern::match_end(const char* text, bool begins_line) const {
  regmatch_t where{};
  if (::regexec(regex_, text, 1, &where, begins_line ? 0 : REG_NOTBOL) != 0) return std::string::npos;
  return static_cast<size_t>(where.rm_eo);
}

Result<std::unique_ptr<ConsoleWatch>> ConsoleWatch::create(std::span<const Expectation> expectations,
                                                           std::function<void(std::string_view)> type) {
  std::vector<Step> steps;
  for (const auto& expectation : expectations) {
    VMM_TRY_ASSIGN(auto pattern, Pattern::create(expectation.pattern));
    steps.push_back({expectation, std::move(pattern)});
  }
  return std::unique_ptr<ConsoleWatch>{new ConsoleWatch{std::move(steps), std::move(type)}};
}

bool ConsoleWatch::append(std::span<const std::byte> bytes) {
  const std::lock_guard lock{mutex_};
  for (const auto byte : bytes) {
    const auto character = static_cast<char>(byte);
    if (character != '\0' && character != '\r') text_ += character;
  }
  if (text_.size() > 2 * kKept) {  // cut now and then, not on every byte
    const size_t cut = text_.size() - kKept;
    text_.erase(0, cut);
    matched_ -= std::min(matched_, cut);
  }
  bytes_ += bytes.size();
  last_output_ = Clock::now();
  return !steps_.empty();
}

std::vector<Expectation> ConsoleWatch::match() {
  std::vector<Expectation> met;
  while (next_ < steps_.size()) {
    {
      const std::lock_guard lock{mutex_};
      const bool begins_line = matched_ == 0 || text_[matched_ - 1] == '\n';
      const size_t end = steps_[next_].pattern.match_end(text_.c_str() + matched_, begins_line);
      if (end == std::string::npos) {
        matched_ =
            begin_of_last(kMostLines, std::max(matched_, text_.size() - std::min(text_.size(), kMostBytes)));
        break;
      }
      matched_ += end;
    }
    met.push_back(steps_[next_].expectation);
    if (!met.back().answer.empty()) type_(met.back().answer);
    ++next_;
  }
  return met;
}

std::string_view ConsoleWatch::waiting_for() const {
  return all_met() ? std::string_view{} : steps_[next_].expectation.pattern;
}

std::string ConsoleWatch::last_lines(size_t count) const {
  const std::lock_guard lock{mutex_};
  return text_.substr(begin_of_last(count, 0));
}

// Where the last lines begin, so many or as many as lie behind `least`.
size_t ConsoleWatch::begin_of_last(size_t count, size_t least) const {
  size_t begin = text_.size();
  if (begin > least && text_.back() == '\n') --begin;  // the end of the last line begins no other
  for (size_t lines = 0; begin > least; --begin) {
    if (text_[begin - 1] == '\n' && ++lines == count) break;
  }
  return begin;
}

ConsoleWatch::Clock::time_point ConsoleWatch::last_output() const {
  const std::lock_guard lock{mutex_};
  return last_output_;
}

uint64_t ConsoleWatch::bytes() const {
  const std::lock_guard lock{mutex_};
  return bytes_;
}

}  // namespace vmm
