// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/options.h"

#include <functional>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "vmm/cli/config_file.h"
#include "vmm/cli/manual.h"
#include "vmm/cli/values.h"
#include "vmm/machine/console_watch.h"

namespace vmm::cli {
namespace {

// What the options fill in beside the configuration.
struct Parsed {
  Command command;
  std::string config_file;
  std::vector<std::string> control;  // the words after ctl
  bool print_config = false;
  bool print_manual = false;
  bool print_completion = false;
  bool cleared_append = false;
  bool cleared_disks = false;
  bool cleared_nets = false;
  bool cleared_expectations = false;
};

// An option whose value `apply` parses. CLI11 reports by exception; our parsers by result.
CLI::Option* add(CLI::App& app, const std::string& name, std::string value_name, const std::string& text,
                 std::function<Result<void>(const std::string&)> apply) {
  auto* option = app.add_option(
      name,
      [apply = std::move(apply), name](const CLI::results_t& values) {
        for (const auto& value : values) {
          if (const auto applied = apply(value); !applied)
            throw CLI::ValidationError(name, applied.error().message);
        }
        return true;
      },
      text);
  option->type_name(std::move(value_name));
  option->trigger_on_parse();  // in the order given: --send belongs to the --expect before it
  return option;
}

template <typename T>
std::function<Result<void>(const std::string&)> into(T& target, Result<T> (*parse)(std::string_view)) {
  return [&target, parse](const std::string& value) -> Result<void> {
    VMM_TRY_ASSIGN(target, parse(value));
    return {};
  };
}

std::function<Result<void>(const std::string&)> into_path(std::filesystem::path& target) {
  return [&target](const std::string& value) -> Result<void> {
    if (value.empty()) return fail("names no file");
    target = value;
    return {};
  };
}

// A list on the command line replaces the configuration file's list.
template <typename List>
void clear_once(bool& cleared, List& list) {
  if (!std::exchange(cleared, true)) list.clear();
}

void add_guest_options(CLI::App& app, Parsed& parsed) {
  auto& config = parsed.command.config;
  add(app, "--kernel", "FILE",
      "Kernel to boot: bzImage, ELF vmlinux (64-bit or PVH entry), Multiboot 1, told by its content",
      into_path(config.kernel));
  add(app, "--initrd", "FILE", "Initial RAM disk, or the Multiboot module", into_path(config.initrd));
  auto* cmdline = add(app, "--cmdline", "TEXT", "Kernel command line, in place of the default one",
                      [&config](const std::string& value) -> Result<void> {
                        config.cmdline = value;
                        return {};
                      });
  add(app, "--append", "TEXT", "Words added to the kernel command line; may be repeated",
      [&](const std::string& value) -> Result<void> {
        clear_once(parsed.cleared_append, config.append);
        config.append += (config.append.empty() ? "" : " ") + value;
        return {};
      })
      ->excludes(cmdline);
  app.add_flag_callback(
      "--no-kaslr", [&config] { config.kaslr = false; },
      "Run the kernel where it is linked, not at random addresses; so does the word nokaslr on its command "
      "line");
  add(app, "--flat-address", "ADDRESS",
      "Load the kernel as a flat binary at ADDRESS and enter it in real mode",
      [&config](const std::string& value) -> Result<void> {
        VMM_TRY_ASSIGN(const auto address, parse_number(value, 0, 0xf'ffff));
        config.flat_address = Gpa{address};
        return {};
      });
  add(app, "--cpus", "N[,pin=LIST]",
      "Virtual CPUs, 1 to 254; one socket of N cores [1]. With pin, each stays on a host CPU: 4,pin=0-3",
      [&config](const std::string& value) -> Result<void> {
        VMM_TRY_ASSIGN(auto cpus, parse_cpus(value));
        config.cpus = cpus.count;
        config.pins = std::move(cpus.pins);
        return {};
      });
  add(app, "--cpu", "MODEL", "CPU features: host, or host with some taken away, as in host,-avx512f [host]",
      [&config](const std::string& value) -> Result<void> {
        config.cpu_model = value;
        return {};
      });
  add(app, "--memory", "SIZE[,hugepages=2M|transparent|none][,backing=private|memfd][,prefault]",
      "Guest memory, like 256M or 4G, at least 64M. hugepages: transparent takes huge pages where the host "
      "has some, 2M the host's reserved ones, none does without [transparent]. backing=memfd: memory that "
      "other processes can share. prefault: take all of it at once. Memory that the guest frees goes back "
      "to the host, but not from reserved huge pages, and from prefaulted memory only on demand (vmm ctl) "
      "[512M]",
      [&config](const std::string& value) -> Result<void> {
        VMM_TRY_ASSIGN(const auto memory, parse_memory(value));
        config.memory = memory.size;
        config.memory_backing = memory.backing;
        return {};
      });
}

void add_device_options(CLI::App& app, Parsed& parsed) {
  auto& config = parsed.command.config;
  add(app, "--disk", "FILE[,ro][,serial=TEXT][,direct][,queues=N][,iothread][,bps=SIZE][,iops=N]",
      "Raw image or block device; vda, vdb, ... in the order given. Locked against a second writer. direct: "
      "past the host's cache; queues: 1 to 64 [one for each CPU]; iothread: a thread for each queue; bps, "
      "iops: at most so many bytes, or requests, a second, of which one second's worth may come at once",
      [&](const std::string& value) -> Result<void> {
        clear_once(parsed.cleared_disks, config.disks);
        VMM_TRY_ASSIGN(auto disk, parse_disk(value));
        config.disks.push_back(std::move(disk));
        return {};
      });
  add(app, "--net",
      "{user[,hostfwd=tcp:[HOST]:PORT-:GUEST]... | "
      "tap=NAME[,queues=N][,iothread][,vhost]}[,mac=MAC][,bps=SIZE][,pps=N] | none",
      "Network: in user mode (DHCP, DNS, forwarded ports), over a tap, or none. Without --net: user. queues: "
      "1 to 16 pairs, of which the guest uses one for each CPU [1]; several take a tap made with "
      "multi_queue; "
      "iothread: a thread for each pair. bps, pps: at most so many bytes, or frames, a second in each "
      "direction, of which one second's worth may come at once; the rest waits. vhost: the host's kernel "
      "carries a tap's frames by itself (/dev/vhost-net), through one pair of queues and without limits",
      [&](const std::string& value) -> Result<void> {
        if (!config.nets) config.nets.emplace();
        clear_once(parsed.cleared_nets, *config.nets);
        if (value == "none") return {};
        VMM_TRY_ASSIGN(auto net, parse_net(value));
        config.nets->push_back(std::move(net));
        return {};
      });
  add(app, "--console", "stdio|file=FILE|socket=FILE|none", "Where the serial console (ttyS0) goes [stdio]",
      into(config.console, parse_console));
  add(app, "--virtio-console", "stdio|file=FILE|socket=FILE|none",
      "Where a virtio console (hvc0) goes [none]", into(config.virtio_console, parse_console));
  add(app, "--vsock", "cid=N,path=FILE",
      "Sockets between guest and host (AF_VSOCK). The guest has address N, from 3 on, and the host 2. Who "
      "connects to the Unix socket FILE and writes \"CONNECT PORT\" and a newline is connected to the "
      "guest's "
      "port, once \"OK\" and a port are the answer; a guest that connects to a PORT of the host reaches the "
      "Unix socket FILE_PORT",
      [&config](const std::string& value) -> Result<void> {
        VMM_TRY_ASSIGN(config.vsock, parse_vsock(value));
        return {};
      });
  add(app, "--transport", "pci|mmio|mmio-cmdline",
      "How virtio devices appear: on PCI; as MMIO devices in ACPI; or as MMIO devices on the kernel command "
      "line [pci]",
      into(config.transport, parse_transport));
  app.add_flag("--rtc", config.rtc, "Add a CMOS real-time clock");
  app.add_flag("--pit", config.pit,
               "Add an i8254 and an ACPI PM timer, for kernels that know no clock of KVM's");
  app.add_flag("--debug-ports", config.debug_ports,
               "Add port 0xE9 (a console), port 0xF4 (exit with a status) and scratch registers");
}

void add_run_options(CLI::App& app, Parsed& parsed) {
  auto& config = parsed.command.config;
  app.add_option("--config", parsed.config_file,
                 "Read a JSON file that says all that these options say; they override it")
      ->type_name("FILE");
  app.add_flag(
      "--print-config", parsed.print_config,
      "Print the configuration file that equals this command line, for the current directory, and exit");
  app.add_flag_callback(
      "--no-reboot", [&config] { config.reboot = false; },
      "Exit with code 8 when the guest asks for a reset, instead of restarting");
  add(app, "--stats", "FILE", "Write the receipt of the run to FILE as JSON", into_path(config.stats));
  add(app, "--trace", "FILE",
      "Write every exit to user space with its time to FILE, for ui.perfetto.dev (Chrome trace events)",
      into_path(config.trace));
  add(app, "--kernel-cache", "DIRECTORY|none",
      "Where unpacked kernels are kept for the next start [unpacked in $VMM_CACHE, $XDG_CACHE_HOME/vmm or "
      "~/.cache/vmm]",
      [&config](const std::string& value) -> Result<void> {
        if (value.empty()) return fail("names no directory");
        config.kernel_cache = value == "none" ? "" : value;
        return {};
      });
  add(app, "--id", "NAME",
      "Name of this machine: its control socket is $XDG_RUNTIME_DIR/vmm/NAME, and vmm ctl NAME asks it",
      [&config](const std::string& value) -> Result<void> {
        VMM_TRY(control_path(value));
        config.id = value;
        return {};
      });
  add(app, "--control", "FILE", "Make the control socket at FILE", into_path(config.control));
  add(app, "--symbols", "FILE", "ELF file or System.map that names addresses in diagnostics",
      into_path(config.symbols));
  add(app, "--silence", "SECONDS",
      "Say where the guest is when its console has been silent for so long before user space; 0: never [30]",
      into(config.silence, parse_seconds));
  add(app, "--log", "LEVEL", "error, warning, info or debug [warning]",
      [&config](const std::string& value) -> Result<void> {
        const auto level = parse_log_level(value);
        if (!level) return fail("\"{}\" is not a level: error, warning, info or debug", value);
        config.log = *level;
        return {};
      });
}

void add_test_options(CLI::App& app, Parsed& parsed) {
  auto& config = parsed.command.config;
  add(app, "--expect", "REGEX",
      "End with code 0 once the console has said REGEX (POSIX extended, 16 lines at most); several, in order",
      [&](const std::string& value) -> Result<void> {
        clear_once(parsed.cleared_expectations, config.expectations);
        VMM_TRY(Pattern::create(value));
        config.expectations.push_back({value, {}});
        return {};
      });
  add(app, "--send", "TEXT", "Type TEXT once the --expect before it is met; \\n, \\t, \\xNN are understood",
      [&](const std::string& value) -> Result<void> {
        if (config.expectations.empty()) return fail("comes after the --expect that it answers");
        VMM_TRY_ASSIGN(const auto text, unescape(value));
        config.expectations.back().answer += text;
        return {};
      });
  add(app, "--timeout", "SECONDS", "End with code 6 and the last lines of the console after so long",
      into(config.timeout, parse_seconds));
}

void build(CLI::App& app, Parsed& parsed) {
  app.set_version_flag("--version", std::string{"vmm "} + VMM_VERSION);
  app.option_defaults()->always_capture_default(false);
  app.option_defaults()->group("The guest");
  add_guest_options(app, parsed);
  app.option_defaults()->group("Its devices");
  add_device_options(app, parsed);
  app.option_defaults()->group("The run");
  add_run_options(app, parsed);
  app.option_defaults()->group("Automated boot tests");
  add_test_options(app, parsed);
  app.option_defaults()->group("");  // for the build, not for users
  app.add_flag("--print-manual", parsed.print_manual);
  app.add_flag("--print-completion", parsed.print_completion);
  app.option_defaults()->group("Options");

  auto* doctor =
      app.add_subcommand("doctor", "Say what this host can do, and what to do about what it cannot");
  doctor->add_flag("--json", parsed.command.json, "As JSON, for scripts");
  auto* control = app.add_subcommand(
      "ctl", "Ask a running machine: MACHINE is its --id, or the path of its --control socket");
  control->add_option("words", parsed.control)
      ->type_name(fmt::format("MACHINE {}", kControlUsage))
      ->allow_extra_args();
  app.footer(std::string{help_footer()});
}

// The file is read before the options are applied, so that they override it.
Result<void> load_config_file(std::span<const char* const> arguments, Config& config) {
  for (size_t i = 1; i < arguments.size(); ++i) {
    std::string_view word = arguments[i];
    if (word == "--config" && i + 1 < arguments.size()) return read_config_file(arguments[i + 1], config);
    constexpr std::string_view kJoined = "--config=";
    if (word.starts_with(kJoined)) return read_config_file(std::string{word.substr(kJoined.size())}, config);
  }
  return {};
}

Result<void> check(const Config& config) {
  if (config.kernel.empty()) return fail("--kernel is missing: name the kernel to boot, or try vmm --help");
  if (config.memory < Config::kMinimumMemory) {
    return fail("--memory {}: too little, give at least {}", format_size(config.memory),
                format_size(Config::kMinimumMemory));
  }
  if (config.memory % 4096 != 0) return fail("--memory {}: not a multiple of 4K", config.memory);
  if (config.memory_backing.huge_pages == MemoryBacking::HugePages::reserved &&
      config.memory % (2ULL << 20) != 0) {
    return fail("--memory {},hugepages=2M: not a multiple of 2M", format_size(config.memory));
  }
  constexpr uint64_t kMostMemory = 1ULL << 40;
  if (config.memory > kMostMemory) {
    return fail("--memory {}: more than {}", format_size(config.memory), format_size(kMostMemory));
  }
  if (config.console.kind == ConsoleConfig::Kind::stdio &&
      config.virtio_console.kind == ConsoleConfig::Kind::stdio) {
    return fail("--virtio-console stdio: the serial console is there; send that elsewhere with --console");
  }
  return {};
}

}  // namespace

Result<Command> parse_command_line(std::span<const char* const> arguments) {
  Parsed parsed;
  VMM_TRY(load_config_file(arguments, parsed.command.config));
  CLI::App app{"Boots an unmodified Linux guest on /dev/kvm.", "vmm"};
  build(app, parsed);
  try {
    app.parse(static_cast<int>(arguments.size()), const_cast<char**>(arguments.data()));
  } catch (const CLI::Success& success) {  // --help, --version
    std::ostringstream out;
    app.exit(success, out, out);
    Command command;
    command.kind = Command::Kind::print_text;
    command.text = out.str();
    return command;
  } catch (const CLI::ParseError& error) {
    return fail("{}", error.what());
  }
  auto& command = parsed.command;
  if (parsed.print_manual || parsed.print_completion) {
    command.kind = Command::Kind::print_text;
    command.text = parsed.print_manual ? manual_page(app) : bash_completion(app);
    return command;
  }
  if (app.got_subcommand("doctor")) {
    command.kind = Command::Kind::doctor;
    return command;
  }
  if (app.got_subcommand("ctl")) {
    command.kind = Command::Kind::control;
    VMM_TRY_ASSIGN(command.request, parse_control(parsed.control));
    return command;
  }
  VMM_TRY(check(command.config));
  command.kind = parsed.print_config ? Command::Kind::print_config : Command::Kind::run;
  return command;
}

}  // namespace vmm::cli
