// SPDX-License-Identifier: Apache-2.0
//
// The keys a terminal keeps for itself. Everything else goes to the guest, so they all begin with Ctrl-A:
// Ctrl-A x quits, Ctrl-A h helps, Ctrl-A Ctrl-A is one Ctrl-A for the guest; any other second key is ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vmm::backend {

class EscapeKeys {
 public:
  enum class Action : uint8_t { none, quit, help };

  // Appends to `out` what the guest gets of this key.
  Action press(std::byte key, std::string& out);

  static constexpr std::string_view kHelp =
      "\r\n"
      "Ctrl-A x       quit: stop the virtual machine at once\r\n"
      "Ctrl-A h       show this help\r\n"
      "Ctrl-A Ctrl-A  send one Ctrl-A to the guest\r\n";

 private:
  bool escaped_ = false;  // the last key was Ctrl-A
};

}  // namespace vmm::backend
