// SPDX-License-Identifier: Apache-2.0
//
// What the host can refuse returns Result<T>. What a guest does wrong is an enum of the device concerned, and
// a bug of ours is an assertion; the three never mix.
#pragma once

#include <string>
#include <utility>

#include <fmt/core.h>
#include <tl/expected.hpp>

namespace vmm {

// An error as the user reads it: the act in the user's words, the fault, and the remedy where there is one.
struct Error {
  std::string message;
  int code = 0;  // errno, or 0 where no system call was refused
};

template <typename T>
using Result = tl::expected<T, Error>;

// "ACT: strerror(code)", or just ACT when code is 0.
[[nodiscard]] tl::unexpected<Error> make_failure(int code, fmt::string_view format, fmt::format_args args);

// Cold, as what leads to it then is, too: kept apart from what every machine runs, and small.
template <typename... Args>
[[nodiscard, gnu::cold]] tl::unexpected<Error> fail(int code, fmt::format_string<Args...> format,
                                                    Args&&... args) {
  return make_failure(code, format, fmt::make_format_args(args...));
}

template <typename... Args>
[[nodiscard, gnu::cold]] tl::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) {
  return make_failure(0, format, fmt::make_format_args(args...));
}

}  // namespace vmm

// Leaves the enclosing function with the error of `expr`, if it has one. The only control-flow macros here.
#define VMM_TRY_NAME2(a, b) a##b
#define VMM_TRY_NAME(a, b) VMM_TRY_NAME2(a, b)
#define VMM_TRY(expr)                                           \
  do {                                                          \
    auto vmm_try_result = (expr);                               \
    if (!vmm_try_result) [[unlikely]]                           \
      return tl::unexpected(std::move(vmm_try_result.error())); \
  } while (false)
// VMM_TRY_ASSIGN(auto x, f()): x is the value of f(), or the function returns f's error.
// NOLINTBEGIN(bugprone-macro-parentheses): the target may be a declaration, which takes none.
#define VMM_TRY_ASSIGN_TO(tmp, target, expr)       \
  auto tmp = (expr);                               \
  if (!tmp) [[unlikely]]                           \
    return tl::unexpected(std::move(tmp.error())); \
  target = std::move(*tmp)
// NOLINTEND(bugprone-macro-parentheses)
#define VMM_TRY_ASSIGN(target, expr) VMM_TRY_ASSIGN_TO(VMM_TRY_NAME(vmm_try_, __LINE__), target, expr)
