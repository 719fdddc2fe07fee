// SPDX-License-Identifier: Apache-2.0
//
// fmt as a part of the program: Debian has it as a shared library only, which would bring the shared
// libstdc++.
#include <fmt/format-inl.h>

// What its headers promise to be somewhere.
template auto fmt::detail::decimal_point_impl(locale_ref) -> char;
template auto fmt::detail::thousands_sep_impl<char>(locale_ref) -> thousands_sep_result<char>;
template auto fmt::detail::locale_ref::get<std::locale>() const -> std::locale;
