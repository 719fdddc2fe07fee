// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/report_text.h"

#include <algorithm>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace vmm::cli {
namespace {

using Json = nlohmann::ordered_json;

double milliseconds(std::chrono::nanoseconds time) {
  return static_cast<double>(time.count()) / 1e6;
}
double mebibytes(uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

uint64_t total_exits(const Receipt& receipt) {
  uint64_t total = 0;
  for (const auto& exits : receipt.exits) total += exits.count;
  return total;
}

std::string_view verdict_name(HostReport::Verdict verdict) {
  switch (verdict) {
    case HostReport::Verdict::good:
      return "good";
    case HostReport::Verdict::missing_optional:
      return "optional";
    case HostReport::Verdict::bad:
      break;
  }
  return "bad";
}

}  // namespace

std::string_view outcome_name(Outcome::Kind kind) {
  switch (kind) {
    case Outcome::Kind::power_off:
      return "power_off";
    case Outcome::Kind::host_failure:
      return "host_failure";
    case Outcome::Kind::guest_panic:
      return "guest_panic";
    case Outcome::Kind::triple_fault:
      return "triple_fault";
    case Outcome::Kind::emulation_failure:
      return "emulation_failure";
    case Outcome::Kind::timeout:
      return "timeout";
    case Outcome::Kind::expectation_unmet:
      return "expectation_unmet";
    case Outcome::Kind::expectations_met:
      return "expectations_met";
    case Outcome::Kind::reset:
      return "reset";
    case Outcome::Kind::debug_exit:
      return "debug_exit";
    case Outcome::Kind::signal:
      return "signal";
    case Outcome::Kind::quit:
      break;
  }
  return "quit";
}

std::string receipt_text(const Receipt& receipt) {
  std::string text = "\n";
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("  {:<14} {}\n", name, value);
  };
  text += fmt::format("receipt: {}{}\n", outcome_name(receipt.outcome.kind),
                      receipt.outcome.detail.empty() ? "" : " (" + receipt.outcome.detail + ")");
  line("kernel", receipt.kernel);
  auto start = fmt::format("{:.1f} ms to the first instruction", milliseconds(receipt.first_instruction));
  for (const auto& phase : receipt.phases)
    start += fmt::format(", {} {:.1f}", phase.name, milliseconds(phase.duration));
  line("start", start);
  for (const auto& mark : receipt.marks)
    line("  " + mark.name, fmt::format("{:.1f} ms", milliseconds(mark.at)));
  for (const auto& met : receipt.met)
    line("  seen", fmt::format("{:.1f} ms  {}", milliseconds(met.at), met.pattern));
  line("time", fmt::format("{:.1f} ms, CPU: guest {:.1f} ms, VMM {:.1f} ms", milliseconds(receipt.wall),
                           milliseconds(receipt.cpu_guest), milliseconds(receipt.cpu_vmm)));
  if (receipt.resets != 0) line("resets", fmt::format("{}", receipt.resets));
  auto exits = fmt::format("{} to user space", total_exits(receipt));
  for (const auto& reason : receipt.exits) exits += fmt::format(", {} {}", reason.reason, reason.count);
  line("exits", exits);
  for (const auto& access : receipt.accesses) {
    line("  " + access.device,
         fmt::format("{} reads, {} writes ({})", access.reads, access.writes, access.space));
  }
  line("interrupts", fmt::format("{}", receipt.interrupts));
  for (const auto& traffic : receipt.traffic) {
    line(traffic.device, fmt::format("{} bytes to the guest, {} from it", traffic.in, traffic.out));
  }
  line("memory", fmt::format("{:.1f} of {:.0f} MiB touched by the guest", mebibytes(receipt.memory_touched),
                             mebibytes(receipt.memory_size)));
  const uint64_t rest = receipt.memory_vmm - receipt.memory_program - receipt.memory_heap;
  line("  VMM", fmt::format("{:.1f} MiB beside it: program {:.1f}, heap {:.1f}, stacks and buffers {:.1f}",
                            mebibytes(receipt.memory_vmm), mebibytes(receipt.memory_program),
                            mebibytes(receipt.memory_heap), mebibytes(rest)));
  const auto kvm_exits = std::ranges::find(receipt.kvm, "exits", &Receipt::Counter::name);
  if (kvm_exits != receipt.kvm.end()) line("KVM", fmt::format("{} exits in all", kvm_exits->value));
  return text;
}

nlohmann::ordered_json receipt_object(const Receipt& receipt) {
  Json json;
  json["outcome"] = {{"kind", outcome_name(receipt.outcome.kind)},
                     {"detail", receipt.outcome.detail},
                     {"exit_code", exit_code(receipt.outcome)}};
  json["kernel"] = receipt.kernel;
  json["io_engine"] = receipt.engine;
  json["resets"] = receipt.resets;
  auto& times = json["times_ms"];
  times["first_instruction"] = milliseconds(receipt.first_instruction);
  times["wall"] = milliseconds(receipt.wall);
  times["cpu_guest"] = milliseconds(receipt.cpu_guest);
  times["cpu_vmm"] = milliseconds(receipt.cpu_vmm);
  json["phases"] = Json::array();
  for (const auto& phase : receipt.phases) {
    json["phases"].push_back(
        {{"name", phase.name}, {"ms", milliseconds(phase.duration)}, {"bytes", phase.bytes}});
  }
  json["marks"] = Json::array();
  for (const auto& mark : receipt.marks)
    json["marks"].push_back({{"name", mark.name}, {"ms", milliseconds(mark.at)}});
  json["marks_dropped"] = receipt.marks_dropped;
  json["expectations_met"] = Json::array();
  for (const auto& met : receipt.met) {
    json["expectations_met"].push_back({{"regex", met.pattern}, {"ms", milliseconds(met.at)}});
  }
  auto& exits = json["exits_to_user_space"];
  exits["total"] = total_exits(receipt);
  exits["by_reason"] = Json::object();
  for (const auto& reason : receipt.exits) exits["by_reason"][reason.reason] = reason.count;
  exits["by_device"] = Json::array();
  for (const auto& access : receipt.accesses) {
    exits["by_device"].push_back({{"device", access.device},
                                  {"space", access.space},
                                  {"reads", access.reads},
                                  {"writes", access.writes}});
  }
  json["interrupts"] = receipt.interrupts;
  json["traffic_bytes"] = Json::array();
  for (const auto& traffic : receipt.traffic) {
    json["traffic_bytes"].push_back({{"device", traffic.device}, {"in", traffic.in}, {"out", traffic.out}});
  }
  json["memory_bytes"] = {{"guest", receipt.memory_size},
                          {"guest_touched", receipt.memory_touched},
                          {"guest_reported_free", receipt.memory_reported},
                          {"vmm", receipt.memory_vmm},
                          {"vmm_program", receipt.memory_program},
                          {"vmm_heap", receipt.memory_heap}};
  json["kvm"] = Json::object();
  for (const auto& counter : receipt.kvm) json["kvm"][counter.name] = counter.value;
  return json;
}

std::string receipt_json(const Receipt& receipt) {
  return dump(receipt_object(receipt));
}

std::string host_text(const HostReport& report) {
  std::string text;
  for (const auto& finding : report.findings) {
    const std::string_view sign = finding.verdict == HostReport::Verdict::good               ? "ok  "
                                  : finding.verdict == HostReport::Verdict::missing_optional ? "--  "
                                                                                             : "BAD ";
    text += fmt::format("{}{}: {}\n", sign, finding.subject, finding.fact);
    if (!finding.remedy.empty()) text += fmt::format("      -> {}\n", finding.remedy);
  }
  switch (report.kind) {
    case HostReport::Kind::hardware:
      return text + "This host runs Linux guests.\n";
    case HostReport::Kind::emulating:
      return text + "This host runs bare-metal payloads; Linux guests need the lab.\n";
    case HostReport::Kind::unusable:
      break;
  }
  return text + "This host runs no guests as it is.\n";
}

std::string host_json(const HostReport& report) {
  Json json;
  json["host"] = to_string(report.kind);
  json["runs_linux"] = report.kind == HostReport::Kind::hardware;
  json["findings"] = Json::array();
  for (const auto& finding : report.findings) {
    json["findings"].push_back({{"subject", finding.subject},
                                {"verdict", verdict_name(finding.verdict)},
                                {"fact", finding.fact},
                                {"remedy", finding.remedy}});
  }
  return dump(json);
}

}  // namespace vmm::cli
