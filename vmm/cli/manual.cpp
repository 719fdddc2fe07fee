// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/manual.h"

#include <algorithm>
#include <array>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "vmm/machine/command_line.h"

namespace vmm::cli {
namespace {

struct ExitCode {
  std::string_view code;
  std::string_view meaning;
};

constexpr std::array kExitCodes = {
    ExitCode{"0", "the guest powered off, every --expect was met, or the user quit with Ctrl-A x"},
    ExitCode{"1", "the machine could not be started, or the host failed"},
    ExitCode{"2", "the command line or the configuration file is wrong"},
    ExitCode{"3", "the guest panicked (and said so by pvpanic)"},
    ExitCode{"4", "triple fault"},
    ExitCode{"5", "KVM could not go on with the guest"},
    ExitCode{"6", "--timeout was reached"},
    ExitCode{"7", "the guest ended before every --expect was met"},
    ExitCode{"8", "the guest asked for a reset, with --no-reboot"},
    ExitCode{"128+N", "stopped by signal N, the second time it came; the first one presses the power button"},
};

struct ControlCommand {
  std::string_view words;
  std::string_view request;
  std::string_view meaning;
};

constexpr std::array kControlCommands = {
    ControlCommand{
        "stats", R"({"command": "stats"})",
        "Prints the receipt so far and, in bytes, \"memory\": its size, the target, the balloon (what the "
        "guest says that it gave), whether there is a driver, and what the guest tells of its memory "
        "(null if it did not within half a second)."},
    ControlCommand{
        "memory SIZE", R"({"command": "memory", "size": "768M"})",
        "Asks the guest to keep SIZE of its memory and give the host the rest, from 64M up to --memory. "
        "It does so as far as it can, and takes some back rather than run out of memory. The answer's "
        "\"driver\" says whether the guest can do it (yet)."},
    ControlCommand{
        "disk NAME resize SIZE", R"({"command": "disk", "disk": "vda", "resize": "2G"})",
        "Makes a disk larger while the guest uses it. NAME is what Linux calls it: vda is the first --disk, "
        "vdb "
        "the second. An image file grows to SIZE, by a hole that takes no space; a block device has to have "
        "that size already. The guest sees the larger disk at once; its partitions and file systems are its "
        "own affair (growpart, resize2fs). A disk never shrinks, for that would cut off data: copy what is "
        "in "
        "it to a smaller one. One given with ,ro stays as it is."},
    ControlCommand{"power-button", R"({"command": "power-button"})", "Asks the guest to power off."},
    ControlCommand{"quit", R"({"command": "quit"})", "Ends the machine as Ctrl-A x does."},
};

struct Example {
  std::string_view what;
  std::string_view command;
};

constexpr std::array kExamples = {
    Example{"A kernel with its drivers built in, and a root file system:",
            "vmm --kernel bzImage --disk rootfs.img"},
    Example{"Debian's kernel, four CPUs, a port of the host that leads to the guest's ssh:",
            "vmm --kernel vmlinuz --initrd initrd.img --disk debian.img --cpus 4 --memory 2G "
            "--net user,hostfwd=tcp:127.0.0.1:2222-:22"},
    Example{"A tap whose frames the host's kernel carries by itself (vhost-net), made beforehand:",
            "sudo ip tuntap add dev tap0 mode tap user $(id -un) && sudo ip link set tap0 up && "
            "vmm --kernel bzImage --disk rootfs.img --net tap=tap0,vhost"},
    Example{"A pair of network queues for each of four CPUs:",
            "sudo ip tuntap add tap0 mode tap multi_queue user $USER && sudo ip link set tap0 up && "
            "vmm --kernel bzImage --disk rootfs.img --cpus 4 --net tap=tap0,queues=4"},
    Example{"An automated boot test:",
            "vmm --config guest.json --expect 'login: $' --send 'root\\n' --expect '# $' --timeout 60"},
};

// Everything a user can give, hidden options left out.
std::vector<const CLI::Option*> shown(const CLI::App& app, const std::string& group) {
  return app.get_options([&group](const CLI::Option* option) {
    return option->get_group() == group && option->nonpositional();
  });
}

std::string troff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\'' || c == '.') {
      out += c == '.' ? "\\&." : "\\(aq";
    } else {
      out += c;
    }
  }
  return out;
}

// Of a usual machine, then what others have besides.
std::vector<CommandLineWord> default_words() {
  Config usual;
  usual.disks.emplace_back();
  auto other = usual;
  other.disks.front().read_only = true;
  other.virtio_console.kind = ConsoleConfig::Kind::stdio;
  other.transport = Transport::mmio_cmdline;
  auto words = default_command_line(usual);
  for (auto& word : default_command_line(other)) {
    if (std::ranges::find(words, word.word, &CommandLineWord::word) == words.end())
      words.push_back(std::move(word));
  }
  return words;
}

std::string upper_case(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

}  // namespace

std::string manual_page(const CLI::App& app) {
  std::string page = fmt::format(".TH VMM 1 \"\" \"vmm {}\" \"User Commands\"\n", VMM_VERSION);
  page += ".SH NAME\nvmm \\- boot a Linux guest on KVM\n";
  page +=
      ".SH SYNOPSIS\n.B vmm\n.B \\-\\-kernel\n.I FILE\n.RI [ OPTION ]...\n.br\n.B vmm doctor\n.RB [ "
      "\\-\\-json ]\n.br\n.B vmm ctl\n.I MACHINE COMMAND\n";
  page +=
      ".SH DESCRIPTION\n.B vmm\nruns an unmodified guest in a virtual machine: it drives /dev/kvm and gives "
      "the guest\n"
      "memory, CPUs, a serial console and virtio devices. The kernel is told by its content.\n";
  for (const auto& group : app.get_groups()) {
    const auto options = shown(app, group);
    if (group.empty() || options.empty()) continue;
    page += ".SH " + (group == "Options" ? "GENERAL OPTIONS" : upper_case(group)) + "\n";
    for (const auto* option : options) {
      const bool takes_value = option->get_items_expected_max() > 0;
      page += fmt::format(".TP\n.B {}", troff(option->get_name(false, true)));
      page += takes_value ? fmt::format(" \\fI{}\\fR\n", troff(option->get_type_name())) : std::string{"\n"};
      page += troff(option->get_description()) + "\n";
    }
  }
  page +=
      ".SH KERNEL COMMAND LINE\nWithout \\-\\-cmdline, which replaces it all, the kernel gets these words. "
      "\\-\\-append adds words, and the\nlast of a kind counts: \\-\\-append loglevel=7 shows every "
      "message.\n";
  page +=
      "What a word spares was measured with Debian\\(aqs cloud kernel 6.1 on one CPU, from its first "
      "instruction to "
      "init,\nat 1 ns an instruction. \\-\\-transport mmio\\-cmdline adds a virtio_mmio.device= for each "
      "device, to "
      "\\-\\-cmdline, too.\n";
  for (const auto& [word, purpose] : default_words()) {
    page += fmt::format(".TP\n.B {}\n{}\n", troff(word), troff(purpose));
  }
  page +=
      ".SH KEYS\nOn a terminal, Ctrl\\-A begins a key of vmm: Ctrl\\-A x quits, Ctrl\\-A h helps,\n"
      "Ctrl\\-A Ctrl\\-A types one Ctrl\\-A.\n";
  page +=
      ".SH CONTROL SOCKET\n.B vmm ctl\n.I MACHINE COMMAND\nasks a running machine, named by its \\-\\-id or "
      "by the "
      "path of its \\-\\-control socket, which only its\nowner may use. The language on it is JSON, a line "
      "for each "
      "request and each answer.\n";
  for (const auto& [words, request, meaning] : kControlCommands) {
    page += fmt::format(".TP\n.B {}\n{}\n.br\n{}\n", troff(words), troff(meaning), troff(request));
  }
  page +=
      ".PP\nAn answer has a true \\(dqok\\(dq, or a false one and an \\(dqerror\\(dq that says why. A "
      "client's next request\nis looked at when the one before it has been answered.\n";
  page += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : kExitCodes)
    page += fmt::format(".TP\n.B {}\n{}\n", code, troff(meaning));
  page +=
      ".SH FILES\n.TP\n.B \\-\\-config\nA JSON object. Keys are the names of the options, without the "
      "dashes; options that\n"
      "can be repeated are lists; relative paths are relative to the file.\n";
  page += ".SH EXAMPLES\n";
  for (const auto& [what, command] : kExamples) {
    page += fmt::format("{}\n.PP\n.nf\n.RS\n{}\n.RE\n.fi\n.PP\n", troff(what), troff(command));
  }
  return page;
}

std::string bash_completion(const CLI::App& app) {
  std::string names;
  std::string files;
  for (const auto& group : app.get_groups()) {
    if (group.empty()) continue;
    for (const auto* option : shown(app, group)) {
      for (const auto& name : option->get_lnames()) {
        names += (names.empty() ? "--" : " --") + name;
        if (option->get_type_name().starts_with("FILE")) files += (files.empty() ? "--" : "|--") + name;
      }
    }
  }
  return fmt::format(R"(# bash completion for vmm
_vmm() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  case $previous in
    {0}) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --console|--virtio-console) mapfile -t COMPREPLY < <(compgen -W 'stdio file= socket= none' -- "$current"); return ;;
    --net) mapfile -t COMPREPLY < <(compgen -W 'user tap= none' -- "$current"); return ;;
    --transport) mapfile -t COMPREPLY < <(compgen -W 'pci mmio mmio-cmdline' -- "$current"); return ;;
    --log) mapfile -t COMPREPLY < <(compgen -W 'error warning info debug' -- "$current"); return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W 'doctor ctl {1}' -- "$current")
}}
complete -o nospace -o filenames -F _vmm vmm
)",
                     files, names);
}

std::string help_footer() {
  std::string text = "Exit codes:\n";
  for (const auto& [code, meaning] : kExitCodes) text += fmt::format("  {:6} {}\n", code, meaning);
  text += "\nOn a terminal: Ctrl-A x quits, Ctrl-A h helps.\n\nExamples:\n";
  for (const auto& [what, command] : kExamples) text += fmt::format("  {}\n    {}\n", what, command);
  return text;
}

}  // namespace vmm::cli
