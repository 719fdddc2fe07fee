// SPDX-License-Identifier: Apache-2.0
#include "devices/backend/escape_keys.h"

#include <utility>

namespace vmm::backend {

EscapeKeys::Action EscapeKeys::press(std::byte key, std::string& out) {
  constexpr char kControlA = 0x01;
  const auto character = static_cast<char>(key);
  if (!std::exchange(escaped_, false)) {
    escaped_ = character == kControlA;
    if (!escaped_) out += character;
    return Action::none;
  }
  switch (character) {
    case 'x':
    case 'X':
      return Action::quit;
    case 'h':
    case 'H':
    case '?':
      return Action::help;
    case kControlA:
      out += kControlA;
      return Action::none;
    default:
      return Action::none;
  }
}

}  // namespace vmm::backend
