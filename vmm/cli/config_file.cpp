// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/config_file.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <memory>
#include <system_error>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "vmm/cli/values.h"
#include "vmm/machine/console_watch.h"
#include "vmm/machine/controls.h"

namespace vmm::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr size_t kMostBytes = 1 << 20;

Result<std::string> read_whole(const fs::path& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen(path.c_str(), "re"), &std::fclose};
  if (!file) return fail(errno, "open {}", path.string());
  std::string text(kMostBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return fail(errno, "read {}", path.string());
  if (text.size() > kMostBytes)
    return fail("{}: larger than 1 MiB, which no configuration is", path.string());
  return text;
}

// Reads one key's value into the configuration.
struct Reader {
  Config& config;
  fs::path folder;

  [[nodiscard]] fs::path resolve(const fs::path& path) const {
    return path.is_relative() ? folder / path : path;
  }

  static Result<std::string> text(const Json& value) {
    if (!value.is_string()) return fail("expected a text in quotes");
    return value.get<std::string>();
  }
  static Result<bool> truth(const Json& value) {
    if (!value.is_boolean()) return fail("expected true or false");
    return value.get<bool>();
  }
  static Result<uint64_t> number(const Json& value, uint64_t least, uint64_t most) {
    if (value.is_string()) return parse_number(value.get<std::string>(), least, most);
    if (!value.is_number_unsigned()) return fail("expected a number from {} to {}", least, most);
    return parse_number(std::to_string(value.get<uint64_t>()), least, most);
  }
  static Result<std::chrono::milliseconds> seconds(const Json& value) {
    if (value.is_string()) return parse_seconds(value.get<std::string>());
    if (!value.is_number()) return fail("expected a number of seconds");
    return parse_seconds(fmt::format("{:.3f}", value.get<double>()));
  }
  static Result<void> each(const Json& value, const std::function<Result<void>(const Json&)>& one) {
    if (!value.is_array()) return fail("expected a list");
    for (const auto& item : value) VMM_TRY(one(item));
    return {};
  }
  Result<void> path(const Json& value, fs::path& target) const {
    VMM_TRY_ASSIGN(const auto name, text(value));
    if (name.empty()) return fail("names no file");
    target = resolve(name);
    return {};
  }
  Result<void> console(const Json& value, ConsoleConfig& target) const {
    VMM_TRY_ASSIGN(const auto name, text(value));
    VMM_TRY_ASSIGN(target, parse_console(name));
    if (!target.path.empty()) target.path = resolve(target.path);
    return {};
  }
  Result<void> expectation(const Json& value) const {
    if (!value.is_object() || !value.contains("regex")) return fail("expected {{\"regex\": …, \"send\": …}}");
    VMM_TRY_ASSIGN(auto pattern, text(value["regex"]));
    VMM_TRY(Pattern::create(pattern));
    std::string answer;
    if (value.contains("send")) {
      VMM_TRY_ASSIGN(answer, text(value["send"]));
    }
    config.expectations.push_back({std::move(pattern), std::move(answer)});
    return {};
  }
};

struct Key {
  std::string_view name;
  Result<void> (*read)(Reader&, const Json&);
};

// In the order of the command line's help.
const std::array kKeys = {
    Key{"kernel", [](Reader& r, const Json& v) { return r.path(v, r.config.kernel); }},
    Key{"initrd", [](Reader& r, const Json& v) { return r.path(v, r.config.initrd); }},
    Key{"cmdline",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.cmdline, Reader::text(v));
          return {};
        }},
    Key{"append",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.append, Reader::text(v));
          return {};
        }},
    Key{"no-kaslr",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const bool no, Reader::truth(v));
          r.config.kaslr = !no;
          return {};
        }},
    Key{"flat-address",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const auto address, Reader::number(v, 0, 0xf'ffff));
          r.config.flat_address = Gpa{address};
          return {};
        }},
    Key{"cpus",
        [](Reader& r, const Json& v) -> Result<void> {
          if (!v.is_string() && !v.is_number_unsigned()) return fail("expected a number or \"N,pin=LIST\"");
          VMM_TRY_ASSIGN(auto cpus, parse_cpus(v.is_string() ? v.get<std::string>() : v.dump()));
          r.config.cpus = cpus.count;
          r.config.pins = std::move(cpus.pins);
          return {};
        }},
    Key{"cpu",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.cpu_model, Reader::text(v));
          return {};
        }},
    Key{"memory",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const auto text, Reader::text(v));
          VMM_TRY_ASSIGN(const auto memory, parse_memory(text));
          r.config.memory = memory.size;
          r.config.memory_backing = memory.backing;
          return {};
        }},
    Key{"disk",
        [](Reader& r, const Json& v) {
          return Reader::each(v, [&r](const Json& item) -> Result<void> {
            VMM_TRY_ASSIGN(const auto text, Reader::text(item));
            VMM_TRY_ASSIGN(auto disk, parse_disk(text));
            disk.file = r.resolve(disk.file);
            r.config.disks.push_back(std::move(disk));
            return {};
          });
        }},
    Key{"net",
        [](Reader& r, const Json& v) {
          r.config.nets.emplace();
          return Reader::each(v, [&r](const Json& item) -> Result<void> {
            VMM_TRY_ASSIGN(const auto text, Reader::text(item));
            VMM_TRY_ASSIGN(auto net, parse_net(text));
            r.config.nets->push_back(std::move(net));
            return {};
          });
        }},
    Key{"console", [](Reader& r, const Json& v) { return r.console(v, r.config.console); }},
    Key{"virtio-console", [](Reader& r, const Json& v) { return r.console(v, r.config.virtio_console); }},
    Key{"vsock",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const auto text, Reader::text(v));
          VMM_TRY_ASSIGN(r.config.vsock, parse_vsock(text));
          r.config.vsock->path = r.resolve(r.config.vsock->path);
          return {};
        }},
    Key{"transport",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const auto text, Reader::text(v));
          VMM_TRY_ASSIGN(r.config.transport, parse_transport(text));
          return {};
        }},
    Key{"rtc",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.rtc, Reader::truth(v));
          return {};
        }},
    Key{"pit",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.pit, Reader::truth(v));
          return {};
        }},
    Key{"debug-ports",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.debug_ports, Reader::truth(v));
          return {};
        }},
    Key{"no-reboot",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const bool no, Reader::truth(v));
          r.config.reboot = !no;
          return {};
        }},
    Key{"stats", [](Reader& r, const Json& v) { return r.path(v, r.config.stats); }},
    Key{"trace", [](Reader& r, const Json& v) { return r.path(v, r.config.trace); }},
    Key{"kernel-cache",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const auto text, Reader::text(v));
          if (text.empty()) return fail("names no directory");
          r.config.kernel_cache = text == "none" ? fs::path{} : r.resolve(text);
          return {};
        }},
    Key{"id",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(auto id, Reader::text(v));
          VMM_TRY(control_path(id));
          r.config.id = std::move(id);
          return {};
        }},
    Key{"control", [](Reader& r, const Json& v) { return r.path(v, r.config.control); }},
    Key{"symbols", [](Reader& r, const Json& v) { return r.path(v, r.config.symbols); }},
    Key{"silence",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.silence, Reader::seconds(v));
          return {};
        }},
    Key{"log",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(const auto name, Reader::text(v));
          const auto level = parse_log_level(name);
          if (!level) return fail("\"{}\" is not a level: error, warning, info or debug", name);
          r.config.log = *level;
          return {};
        }},
    Key{"expect",
        [](Reader& r, const Json& v) {
          return Reader::each(v, [&r](const Json& item) { return r.expectation(item); });
        }},
    Key{"timeout",
        [](Reader& r, const Json& v) -> Result<void> {
          VMM_TRY_ASSIGN(r.config.timeout, Reader::seconds(v));
          return {};
        }},
};

Json disks_json(const Config& config) {
  Json list = Json::array();
  for (const auto& disk : config.disks) list.push_back(format_disk(disk));
  return list;
}

Json nets_json(const std::vector<NetConfig>& nets) {
  Json list = Json::array();
  for (const auto& net : nets) list.push_back(format_net(net));
  return list;
}

Json seconds_json(std::chrono::milliseconds time) {
  if (time.count() % 1000 == 0) return time.count() / 1000;
  return static_cast<double>(time.count()) / 1000;
}

Json expectations_json(const Config& config) {
  Json list = Json::array();
  for (const auto& step : config.expectations) {
    Json item = {{"regex", step.pattern}};
    if (!step.answer.empty()) item["send"] = step.answer;
    list.push_back(std::move(item));
  }
  return list;
}

}  // namespace

Result<void> read_config_file(const fs::path& path, Config& config) {
  VMM_TRY_ASSIGN(const auto text, read_whole(path));
  Json json;
  try {
    json = Json::parse(text, nullptr, true, true);  // comments are allowed: people share these files
  } catch (const Json::exception& error) {
    return fail("{}: not JSON: {}", path.string(), error.what());
  }
  if (!json.is_object())
    return fail("{}: expected an object, like {{\"kernel\": \"bzImage\"}}", path.string());
  Reader reader{config, path.parent_path()};
  for (const auto& [name, value] : json.items()) {
    const auto key = std::ranges::find(kKeys, std::string_view{name}, &Key::name);
    if (key == kKeys.end()) {
      return fail("{}: \"{}\" is not a key; keys are the names of the options, see vmm --help", path.string(),
                  name);
    }
    if (auto read = key->read(reader, value); !read) {
      return fail("{}: \"{}\": {}", path.string(), name, read.error().message);
    }
  }
  return {};
}

std::string write_config(const Config& config) {
  const Config defaults;
  Json json = Json::object();
  const auto put = [&json](const char* name, bool given, Json value) {
    if (given) json[name] = std::move(value);
  };
  put("kernel", true, config.kernel.string());
  put("initrd", !config.initrd.empty(), config.initrd.string());
  put("cmdline", config.cmdline.has_value(), config.cmdline.value_or(""));
  put("append", !config.append.empty(), config.append);
  put("no-kaslr", !config.kaslr, true);
  put("flat-address", config.flat_address.has_value(),
      fmt::format("{:#x}", config.flat_address.value_or(Gpa{}).raw));
  if (config.pins.empty()) {
    put("cpus", config.cpus != defaults.cpus, config.cpus);
  } else {
    put("cpus", true, format_cpus({config.cpus, config.pins}));
  }
  put("cpu", config.cpu_model != defaults.cpu_model, config.cpu_model);
  put("memory", config.memory != defaults.memory || config.memory_backing != defaults.memory_backing,
      format_memory({config.memory, config.memory_backing}));
  put("disk", !config.disks.empty(), disks_json(config));
  if (config.nets) put("net", true, nets_json(*config.nets));
  put("console", config.console != defaults.console, format_console(config.console));
  put("virtio-console", config.virtio_console != defaults.virtio_console,
      format_console(config.virtio_console));
  if (config.vsock) put("vsock", true, format_vsock(*config.vsock));
  put("transport", config.transport != defaults.transport, format_transport(config.transport));
  put("rtc", config.rtc, true);
  put("pit", config.pit, true);
  put("debug-ports", config.debug_ports, true);
  put("no-reboot", !config.reboot, true);
  put("stats", !config.stats.empty(), config.stats.string());
  put("trace", !config.trace.empty(), config.trace.string());
  if (config.kernel_cache) {
    put("kernel-cache", true, config.kernel_cache->empty() ? "none" : config.kernel_cache->string());
  }
  put("id", !config.id.empty(), config.id);
  put("control", !config.control.empty(), config.control.string());
  put("symbols", !config.symbols.empty(), config.symbols.string());
  put("silence", config.silence != defaults.silence, seconds_json(config.silence));
  put("log", config.log != defaults.log, log_level_name(config.log));
  put("expect", !config.expectations.empty(), expectations_json(config));
  put("timeout", config.timeout != defaults.timeout, seconds_json(config.timeout));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace vmm::cli
