// SPDX-License-Identifier: Apache-2.0
//
// Receipts and host reports, for people and as JSON for programs.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "vmm/machine/host.h"
#include "vmm/machine/receipt.h"

namespace vmm::cli {

[[nodiscard]] std::string receipt_text(const Receipt& receipt);
[[nodiscard]] std::string receipt_json(const Receipt& receipt);
[[nodiscard]] nlohmann::ordered_json receipt_object(const Receipt& receipt);

[[nodiscard]] std::string host_text(const HostReport& report);
[[nodiscard]] std::string host_json(const HostReport& report);

// "power_off", "guest_panic", …: the names of the receipt's outcomes.
[[nodiscard]] std::string_view outcome_name(Outcome::Kind kind);

}  // namespace vmm::cli
