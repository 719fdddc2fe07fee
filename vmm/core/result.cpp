// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/result.h"

#include <system_error>

namespace vmm {

tl::unexpected<Error> make_failure(int code, fmt::string_view format, fmt::format_args args) {
  auto act = fmt::vformat(format, args);
  if (code != 0) act += ": " + std::generic_category().message(code);
  return tl::unexpected(Error{std::move(act), code});
}

}  // namespace vmm
