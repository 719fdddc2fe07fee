// SPDX-License-Identifier: Apache-2.0
#include "vmm/cli/values.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include <fmt/core.h>

namespace vmm::cli {
namespace {

constexpr std::string_view kUnits = "KMGT";

template <typename T>
bool parse_whole(std::string_view text, T& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

// Splits at commas; two commas in a row are one comma in a word.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      words.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      words.back() += ',';
      ++i;
    } else {
      words.emplace_back();
    }
  }
  return words;
}

std::string double_commas(std::string_view text) {
  std::string out;
  for (const char c : text) out.append(c == ',' ? 2 : 1, c);
  return out;
}

// "KEY=VALUE": the value, if the key is this one.
std::optional<std::string_view> value_of(std::string_view word, std::string_view key) {
  if (word.size() <= key.size() || !word.starts_with(key) || word[key.size()] != '=') return std::nullopt;
  return word.substr(key.size() + 1);
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  const auto bad = [text] { return fail("\"{}\" is not a size: write it like 512M or 2G", text); };
  auto digits = text;
  uint64_t unit = 1;
  if (!digits.empty()) {
    const auto suffix = kUnits.find(static_cast<char>(digits.back() & ~0x20));
    if (suffix != std::string_view::npos) {
      unit = 1ULL << (10 * (suffix + 1));
      digits.remove_suffix(1);
    }
  }
  uint64_t count = 0;
  uint64_t bytes = 0;
  if (!parse_whole(digits, count) || __builtin_mul_overflow(count, unit, &bytes)) return bad();
  return bytes;
}

std::string format_size(uint64_t bytes) {
  for (size_t i = kUnits.size(); i > 0; --i) {
    const uint64_t unit = 1ULL << (10 * i);
    if (bytes != 0 && bytes % unit == 0) return fmt::format("{}{}", bytes / unit, kUnits[i - 1]);
  }
  return fmt::format("{}", bytes);
}

Result<MemoryValue> parse_memory(std::string_view text) {
  using HugePages = MemoryBacking::HugePages;
  const auto words = split(text);
  MemoryValue memory;
  VMM_TRY_ASSIGN(memory.size, parse_size(value_of(words.front(), "size").value_or(words.front())));
  for (size_t i = 1; i < words.size(); ++i) {
    const auto& word = words[i];
    if (word == "hugepages=2M") {
      memory.backing.huge_pages = HugePages::reserved;
    } else if (word == "hugepages=transparent") {
      memory.backing.huge_pages = HugePages::transparent;
    } else if (word == "hugepages=none") {
      memory.backing.huge_pages = HugePages::none;
    } else if (word == "backing=private" || word == "backing=memfd") {
      memory.backing.shared = word == "backing=memfd";
    } else if (word == "prefault") {
      memory.backing.prefault = true;
    } else {
      return fail(
          "--memory {}: \"{}\" is not an option of memory; there are hugepages=2M, hugepages=transparent, "
          "hugepages=none, backing=private, backing=memfd and prefault",
          text, word);
    }
  }
  return memory;
}

std::string format_memory(const MemoryValue& memory) {
  auto text = format_size(memory.size);
  switch (memory.backing.huge_pages) {
    case MemoryBacking::HugePages::transparent:
      break;
    case MemoryBacking::HugePages::none:
      text += ",hugepages=none";
      break;
    case MemoryBacking::HugePages::reserved:
      text += ",hugepages=2M";
      break;
  }
  if (memory.backing.shared) text += ",backing=memfd";
  if (memory.backing.prefault) text += ",prefault";
  return text;
}

Result<DiskConfig> parse_disk(std::string_view text) {
  const auto words = split(text);
  DiskConfig disk;
  disk.file = words.front();
  if (disk.file.empty()) return fail("--disk {}: names no file", text);
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "ro") {
      disk.read_only = true;
    } else if (const auto serial = value_of(words[i], "serial")) {
      if (serial->size() > 20) return fail("--disk {}: a serial number has at most 20 characters", text);
      disk.serial = *serial;
    } else if (words[i] == "direct") {
      disk.direct = true;
    } else if (words[i] == "iothread") {
      disk.io_thread = true;
    } else if (const auto queues = value_of(words[i], "queues")) {
      VMM_TRY_ASSIGN(const auto count, parse_number(*queues, 1, DiskConfig::kMaximumQueues));
      disk.queues = static_cast<uint32_t>(count);
    } else if (const auto bandwidth = value_of(words[i], "bps")) {
      VMM_TRY_ASSIGN(disk.bytes_per_second, parse_size(*bandwidth));
    } else if (const auto rate = value_of(words[i], "iops")) {
      VMM_TRY_ASSIGN(disk.requests_per_second, parse_number(*rate, 0, 1'000'000'000));
    } else {
      return fail(
          "--disk {}: \"{}\" is not an option of a disk; there are ro, serial=TEXT, direct, queues=N, "
          "iothread, "
          "bps=SIZE and iops=N (a comma in a file's name is written twice)",
          text, words[i]);
    }
  }
  return disk;
}

std::string format_disk(const DiskConfig& disk) {
  auto text = double_commas(disk.file.string());
  if (disk.read_only) text += ",ro";
  if (!disk.serial.empty()) text += ",serial=" + double_commas(disk.serial);
  if (disk.direct) text += ",direct";
  if (disk.queues) text += fmt::format(",queues={}", *disk.queues);
  if (disk.io_thread) text += ",iothread";
  if (disk.bytes_per_second != 0) text += ",bps=" + format_size(disk.bytes_per_second);
  if (disk.requests_per_second != 0) text += fmt::format(",iops={}", disk.requests_per_second);
  return text;
}

Result<NetConfig> parse_net(std::string_view text) {
  const auto words = split(text);
  NetConfig net;
  if (words.front() == "user") {
    net.backend = UserNetConfig{};
  } else if (const auto name = value_of(words.front(), "tap"); name && !name->empty()) {
    net.backend = TapNetConfig{.name = std::string{*name}};
  } else {
    return fail("--net {}: expected user, tap=NAME or none", text);
  }
  auto* user = std::get_if<UserNetConfig>(&net.backend);
  auto* tap = std::get_if<TapNetConfig>(&net.backend);
  for (size_t i = 1; i < words.size(); ++i) {
    if (const auto mac = value_of(words[i], "mac")) {
      VMM_TRY_ASSIGN(net.mac, backend::MacAddress::parse(*mac));
    } else if (const auto bandwidth = value_of(words[i], "bps")) {
      VMM_TRY_ASSIGN(net.bytes_per_second, parse_size(*bandwidth));
    } else if (const auto rate = value_of(words[i], "pps")) {
      VMM_TRY_ASSIGN(net.frames_per_second, parse_number(*rate, 0, 1'000'000'000));
    } else if (words[i] == "vhost" && tap != nullptr) {
      tap->vhost = true;
    } else if (const auto forward = value_of(words[i], "hostfwd"); forward && user != nullptr) {
      VMM_TRY_ASSIGN(const auto parsed, backend::HostForward::parse(*forward));
      user->forwards.push_back(parsed);
    } else if (const auto queues = value_of(words[i], "queues")) {
      if (tap == nullptr) {
        return fail("--net {}: a network in user mode has one pair of queues; several take tap=NAME", text);
      }
      VMM_TRY_ASSIGN(const auto count, parse_number(*queues, 1, TapNetConfig::kMaximumQueues));
      tap->queues = static_cast<uint32_t>(count);
    } else if (words[i] == "iothread" && tap != nullptr) {
      tap->io_thread = true;
    } else {
      return fail(
          "--net {}: \"{}\" is not an option of this network; there are mac=…, bps=SIZE, pps=N, for user "
          "hostfwd=tcp:[HOST]:PORT-:GUESTPORT, and for tap queues=N, iothread and vhost",
          text, words[i]);
    }
  }
  if (tap != nullptr && tap->vhost && (net.bytes_per_second != 0 || net.frames_per_second != 0)) {
    return fail("--net {}: the kernel keeps no limits for us: leave out vhost, or bps and pps", text);
  }
  if (tap != nullptr && tap->vhost && (tap->queues != 1 || tap->io_thread)) {
    return fail(
        "--net {}: the kernel works one pair of queues for us: leave out vhost, or queues and iothread",
        text);
  }
  return net;
}

std::string format_net(const NetConfig& net) {
  std::string text;
  if (const auto* tap = std::get_if<TapNetConfig>(&net.backend)) {
    text = "tap=" + double_commas(tap->name);
    if (tap->queues != 1) text += fmt::format(",queues={}", tap->queues);
    if (tap->io_thread) text += ",iothread";
    if (tap->vhost) text += ",vhost";
  } else {
    text = "user";
    for (const auto& forward : std::get<UserNetConfig>(net.backend).forwards) {
      text += ",hostfwd=" + forward.to_string();
    }
  }
  if (net.mac) text += ",mac=" + net.mac->to_string();
  if (net.bytes_per_second != 0) text += ",bps=" + format_size(net.bytes_per_second);
  if (net.frames_per_second != 0) text += fmt::format(",pps={}", net.frames_per_second);
  return text;
}

Result<ConsoleConfig> parse_console(std::string_view text) {
  using Kind = ConsoleConfig::Kind;
  if (text == "stdio") return ConsoleConfig{.kind = Kind::stdio, .path = {}};
  if (text == "none") return ConsoleConfig{.kind = Kind::none, .path = {}};
  if (const auto file = value_of(text, "file"); file && !file->empty())
    return ConsoleConfig{.kind = Kind::file, .path = *file};
  if (const auto socket = value_of(text, "socket"); socket && !socket->empty())
    return ConsoleConfig{.kind = Kind::socket, .path = *socket};
  return fail("\"{}\" is not a console: expected stdio, file=FILE, socket=FILE or none", text);
}

std::string format_console(const ConsoleConfig& console) {
  switch (console.kind) {
    case ConsoleConfig::Kind::stdio:
      return "stdio";
    case ConsoleConfig::Kind::file:
      return "file=" + console.path.string();
    case ConsoleConfig::Kind::socket:
      return "socket=" + console.path.string();
    case ConsoleConfig::Kind::none:
      break;
  }
  return "none";
}

Result<VsockConfig> parse_vsock(std::string_view text) {
  VsockConfig vsock;
  bool has_cid = false;
  for (const auto& word : split(text)) {
    if (const auto cid = value_of(word, "cid")) {
      VMM_TRY_ASSIGN(const auto number, parse_number(*cid, VsockConfig::kLeastCid, VsockConfig::kMostCid));
      vsock.cid = static_cast<uint32_t>(number);
      has_cid = true;
    } else if (const auto path = value_of(word, "path")) {
      vsock.path = *path;
    } else {
      return fail("\"{}\" is not an option of sockets; there are cid=N and path=FILE", word);
    }
  }
  if (!has_cid || vsock.path.empty()) return fail("\"{}\" lacks one of cid=N and path=FILE", text);
  return vsock;
}

std::string format_vsock(const VsockConfig& vsock) {
  return fmt::format("cid={},path={}", vsock.cid, double_commas(vsock.path.string()));
}

Result<Transport> parse_transport(std::string_view text) {
  for (const auto transport : {Transport::pci, Transport::mmio, Transport::mmio_cmdline}) {
    if (text == format_transport(transport)) return transport;
  }
  return fail("\"{}\" is not a transport: expected pci, mmio or mmio-cmdline", text);
}

std::string_view format_transport(Transport transport) {
  switch (transport) {
    case Transport::pci:
      return "pci";
    case Transport::mmio:
      return "mmio";
    case Transport::mmio_cmdline:
      break;
  }
  return "mmio-cmdline";
}

Result<Cpus> parse_cpus(std::string_view text) {
  constexpr std::string_view kPin = ",pin=";
  constexpr uint64_t kMostHostCpu = CPU_SETSIZE - 1;  // of sched_setaffinity's usual set
  const size_t at = text.find(kPin);
  VMM_TRY_ASSIGN(const auto count, parse_number(text.substr(0, at), 1, Config::kMaximumCpus));
  Cpus cpus{.count = static_cast<uint32_t>(count), .pins = {}};
  if (at == std::string_view::npos) return cpus;
  const auto list = text.substr(at + kPin.size());
  for (size_t begin = 0, end = 0; end != std::string_view::npos; begin = end + 1) {
    end = list.find(',', begin);
    const auto item = list.substr(begin, end - begin);
    const size_t dash = item.find('-');
    VMM_TRY_ASSIGN(const auto first, parse_number(item.substr(0, dash), 0, kMostHostCpu));
    auto last = first;
    if (dash != std::string_view::npos) {
      VMM_TRY_ASSIGN(last, parse_number(item.substr(dash + 1), first, kMostHostCpu));
    }
    for (auto cpu = first; cpu <= last; ++cpu) cpus.pins.push_back(static_cast<uint32_t>(cpu));
    if (cpus.pins.size() > cpus.count) break;
  }
  if (cpus.pins.size() != cpus.count) {
    return fail("pin={} does not name {} host CPU{}, one for each vCPU in order", list, cpus.count,
                cpus.count == 1 ? "" : "s");
  }
  return cpus;
}

std::string format_cpus(const Cpus& cpus) {
  auto text = std::to_string(cpus.count);
  for (size_t i = 0; i < cpus.pins.size();) {
    size_t end = i + 1;
    while (end < cpus.pins.size() && cpus.pins[end] == cpus.pins[end - 1] + 1) ++end;
    text += fmt::format("{}{}", i == 0 ? ",pin=" : ",", cpus.pins[i]);
    if (end - i > 1) text += fmt::format("-{}", cpus.pins[end - 1]);
    i = end;
  }
  return text;
}

Result<uint64_t> parse_number(std::string_view text, uint64_t least, uint64_t most) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  uint64_t value = 0;
  if (!parse_whole(hex ? text.substr(2) : text, value, hex ? 16 : 10) || value < least || value > most) {
    return fail("\"{}\" is not a number from {} to {}", text, least, most);
  }
  return value;
}

// Without floating-point: what reads that in the C++ library needs libm, a third of a MiB in each process.
Result<std::chrono::milliseconds> parse_seconds(std::string_view text) {
  constexpr uint64_t kMost = 10'000'000;
  const auto bad = [&] { return fail("\"{}\" is not a number of seconds", text); };
  const auto point = text.find('.');
  const auto whole = text.substr(0, point);
  const auto fraction = point == text.npos ? std::string_view{} : text.substr(point + 1);
  if (whole.empty() && fraction.empty()) return bad();
  uint64_t milliseconds = 0;
  bool rest = false;
  if (!whole.empty() && (!parse_whole(whole, milliseconds) || milliseconds > kMost)) return bad();
  for (size_t i = 0; i < std::max<size_t>(fraction.size(), 3); ++i) {
    const char digit = i < fraction.size() ? fraction[i] : '0';
    if (digit < '0' || digit > '9') return bad();
    if (i < 3) milliseconds = milliseconds * 10 + static_cast<uint64_t>(digit - '0');
    rest = rest || (i >= 3 && digit != '0');
  }
  if (rest) ++milliseconds;  // upwards: a time that is not 0 must not become 0, which means none
  if (milliseconds > kMost * 1000) return bad();
  return std::chrono::milliseconds{milliseconds};
}

Result<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char kind = i + 1 < text.size() ? text[++i] : '\0';
    uint8_t byte = 0;
    switch (kind) {
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case '\\':
        out += '\\';
        break;
      case 'x':
        if (i + 2 >= text.size() || !parse_whole(text.substr(i + 1, 2), byte, 16)) {
          return fail("\"{}\": \\x takes two hexadecimal digits", text);
        }
        out += static_cast<char>(byte);
        i += 2;
        break;
      default:
        return fail("\"{}\": a backslash begins \\n, \\r, \\t, \\\\ or \\xNN", text);
    }
  }
  return out;
}

}  // namespace vmm::cli
