// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/control.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "vmm/cli/report_text.h"
#include "vmm/cli/values.h"

namespace vmm::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json refusal(std::string_view why) {
  return {{"ok", false}, {"error", why}};
}

Json outcome(const Result<void>& result) {
  return result ? Json{{"ok", true}} : refusal(result.error().message);
}

Json memory_json(const MemoryReport& memory) {
  Json json = {{"size", memory.size},
               {"target", memory.target},
               {"balloon", memory.balloon},
               {"driver", memory.driver},
               {"guest", nullptr}};
  if (!memory.guest) return json;
  json["guest"] = Json::object();
  for (size_t tag = 0; tag < memory.guest->values.size(); ++tag) {
    const auto& value = memory.guest->values[tag];
    if (value) json["guest"][std::string{memory.guest->kNames[tag]}] = *value;
  }
  return json;
}

struct Call {
  Controls& controls;
  const Json& request;
  const LineServer::Answer& answer;

  void give(const Json& json) const { answer(line_of(json)); }
};

void stats(const Call& call) {
  call.controls.ask_memory([&controls = call.controls, answer = call.answer](const MemoryReport& memory) {
    auto json = receipt_object(controls.receipt_so_far());
    json.erase("outcome");  // there is none yet
    json["memory"] = memory_json(memory);
    answer(line_of({{"ok", true}, {"stats", std::move(json)}}));
  });
}

// A member of the request that is a size.
Result<uint64_t> size_in(const Json& request, const char* member) {
  const auto& size = request[member];
  if (!size.is_string()) return fail("\"{}\": expected a text like \"768M\"", member);
  return parse_size(size.get<std::string>());
}

void memory(const Call& call) {
  const auto bytes = size_in(call.request, "size");
  if (!bytes) return call.give(refusal(bytes.error().message));
  if (const auto set = call.controls.set_memory(*bytes); !set) return call.give(refusal(set.error().message));
  call.controls.ask_memory([answer = call.answer](const MemoryReport& report) {
    answer(line_of({{"ok", true}, {"driver", report.driver}}));
  });
}

void disk(const Call& call) {
  const auto& name = call.request["disk"];
  if (!name.is_string()) return call.give(refusal("\"disk\": expected a text like \"vda\""));
  const auto bytes = size_in(call.request, "resize");
  if (!bytes) return call.give(refusal(bytes.error().message));
  call.give(outcome(call.controls.resize_disk(name.get<std::string>(), *bytes)));
}

void power_button(const Call& call) {
  call.give(outcome(call.controls.press_power_button()));
}

void quit(const Call& call) {
  call.give({{"ok", true}});
  call.controls.quit("control socket");
}

struct Argument {
  std::string_view member;  // of the request, which needs all of them beside "command"
  bool said = false;        // its name is a word of the command line, too, before its value
};

struct Command {
  std::string_view name;
  std::span<const Argument> arguments;
  void (*run)(const Call&);
};

constexpr std::array kMemoryArguments = {Argument{"size"}};
constexpr std::array kDiskArguments = {Argument{"disk"}, Argument{"resize", true}};

constexpr std::array kCommands = {
    Command{"stats", {}, stats},
    Command{"memory", kMemoryArguments, memory},
    Command{"disk", kDiskArguments, disk},
    Command{"power-button", {}, power_button},
    Command{"quit", {}, quit},
};

const Command* find_command(std::string_view name) {
  for (const auto& command : kCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

// What is wrong with a request, if anything; `command` is the one it names.
std::string fault_of(const Json& request, const Command*& command) {
  if (!request.is_object() || !request.contains("command") || !request["command"].is_string()) {
    return "expected an object like {\"command\": \"stats\"}";
  }
  const auto name = request["command"].get<std::string>();
  command = find_command(name);
  if (command == nullptr) return fmt::format("there is no command \"{}\"", name);
  for (const auto& [key, value] : request.items()) {
    const bool known =
        std::ranges::find(command->arguments, key, &Argument::member) != command->arguments.end();
    if (key != "command" && !known) return fmt::format("{} takes no \"{}\"", name, key);
  }
  for (const auto& [member, said] : command->arguments) {
    if (!request.contains(member)) return fmt::format("{} needs a \"{}\"", name, member);
  }
  return {};
}

}  // namespace

void answer_control(Controls& controls, std::string_view request, const LineServer::Answer& answer) {
  // A depth that no request has: the parser recurses with its input.
  constexpr int kDeepest = 4;
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < kDeepest; };
  const auto json = Json::parse(request, shallow, false);
  const Command* command = nullptr;
  if (json.is_discarded()) return answer(line_of(refusal("not JSON")));
  if (const auto fault = fault_of(json, command); !fault.empty()) return answer(line_of(refusal(fault)));
  command->run({controls, json, answer});
}

Result<ControlRequest> parse_control(std::span<const std::string> words) {
  if (words.size() < 2) return fail("ctl: expected MACHINE and one of {}", kControlUsage);
  const auto* command = find_command(words[1]);
  if (command == nullptr) return fail("ctl: \"{}\" is not a command; there are {}", words[1], kControlUsage);
  Json request = {{"command", words[1]}};
  auto rest = words.subspan(2);
  const auto next = [&rest] { return std::exchange(rest, rest.subspan(1)).front(); };
  for (const auto& [member, said] : command->arguments) {
    const bool complete = rest.size() > (said ? 1 : 0);
    if (!complete || (said && next() != member)) {
      return fail("ctl {}: expected {}", words[1], kControlUsage);
    }
    request[std::string{member}] = next();
  }
  if (!rest.empty()) return fail("ctl {}: expected {}", words[1], kControlUsage);
  return ControlRequest{.machine = words[0], .text = line_of(request)};
}

Result<std::string> control(const ControlRequest& request) {
  std::filesystem::path path = request.machine;
  if (request.machine.find('/') == std::string::npos) {
    VMM_TRY_ASSIGN(path, control_path(request.machine));
  }
  VMM_TRY_ASSIGN(const auto answer, ask_line_server(path, "control socket", request.text));
  const auto json = Json::parse(answer, nullptr, false);
  if (!json.is_object() || !json.contains("ok")) return fail("{}: not an answer of a machine", path.string());
  if (json["ok"] != true) {
    return fail("{}", json.contains("error") && json["error"].is_string() ? json["error"].get<std::string>()
                                                                          : "refused");
  }
  if (json.contains("stats")) return json["stats"].dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (json.contains("driver") && json["driver"] == false) {
    return "the guest has no balloon driver (yet), and keeps its memory until then\n";
  }
  return std::string{};
}

}  // namespace vmm::cli
