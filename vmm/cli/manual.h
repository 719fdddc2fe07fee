// SPDX-License-Identifier: Apache-2.0
//
// The manual page and the shell completion, both from the option table.
#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace vmm::cli {

[[nodiscard]] std::string manual_page(const CLI::App& app);      // troff, man(7)
[[nodiscard]] std::string bash_completion(const CLI::App& app);  // for /usr/share/bash-completion/completions
[[nodiscard]] std::string help_footer();                         // exit codes, keys, examples

}  // namespace vmm::cli
