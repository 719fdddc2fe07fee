// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/controls.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace vmm {
namespace {

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_id(std::string_view id) {
  constexpr size_t kLongest = 64;
  return !id.empty() && id.size() <= kLongest && is_alphanumeric(id.front()) &&
         std::ranges::all_of(id,
                             [](char c) { return is_alphanumeric(c) || c == '.' || c == '-' || c == '_'; });
}

std::string disk_name(size_t index) {
  std::string letters;
  for (size_t left = index + 1; left > 0; left = (left - 1) / 26) {
    letters.insert(letters.begin(), static_cast<char>('a' + (left - 1) % 26));
  }
  return "vd" + letters;
}

}  // namespace

Result<size_t> find_disk(std::string_view name, size_t count) {
  for (size_t index = 0; index < count; ++index) {
    if (disk_name(index) == name) return index;
  }
  if (count == 0) return fail("disk {}: this machine has no disks; --disk gives it one", name);
  return fail("disk {}: there is no such disk; this machine has {}{}", name, disk_name(0),
              count == 1 ? "" : " to " + disk_name(count - 1));
}

Result<std::filesystem::path> control_path(std::string_view id) {
  if (!is_id(id)) {
    return fail("\"{}\" is not the name of a machine: up to 64 letters, digits, dots, dashes and underscores",
                id);
  }
  const char* folder = std::getenv("XDG_RUNTIME_DIR");
  if (folder == nullptr || *folder != '/') {
    if (::geteuid() != 0) return fail("XDG_RUNTIME_DIR is not set: name the control socket by its path");
    folder = "/run";
  }
  return std::filesystem::path{folder} / "vmm" / id;
}

Result<std::filesystem::path> make_control_path(const Config& config) {
  if (!config.control.empty() || config.id.empty()) return config.control;
  VMM_TRY_ASSIGN(auto path, control_path(config.id));
  if (::mkdir(path.parent_path().c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(errno, "make the folder {}", path.parent_path().string());
  }
  return path;
}

}  // namespace vmm
