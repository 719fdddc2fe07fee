// SPDX-License-Identifier: Apache-2.0
//
// Finds the root file system that the command line names, waits for it where it must, and mounts it.
#pragma once

#include "guest/init/cmdline.h"

namespace guest {

inline constexpr const char* kNewRoot = "/root";  // the kernel's built-in initramfs always has it

// The part of an ext2/3/4 superblock that names the file system (kernel documentation,
// filesystems/ext4/super.rst).
struct ExtNames {
  bool found = false;
  uint8_t uuid[16];
  char label[16];
};

inline ExtNames read_ext_names(const char* device) {
  ExtNames names;
  const long fd = sys::open(device, sys::kReadOnly);
  if (fd < 0) return names;
  alignas(8) uint8_t block[136];
  const long got = sys::pread(fd, block, sizeof block, 1024);
  sys::close(fd);
  if (got != sizeof block || block[56] != 0x53 || block[57] != 0xef) return names;
  names.found = true;
  __builtin_memcpy(names.uuid, block + 104, sizeof names.uuid);
  __builtin_memcpy(names.label, block + 120, sizeof names.label);
  return names;
}

inline bool same_uuid(const ExtNames& names, Text text) {
  size_t nibble = 0;
  for (size_t i = 0; i < text.size; ++i) {
    const char c = text[i];
    if (c == '-') continue;
    const int value = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (value < 0 || nibble >= 32) return false;
    const uint8_t byte = names.uuid[nibble / 2];
    if (value != (nibble % 2 == 0 ? byte >> 4 : byte & 15)) return false;
    ++nibble;
  }
  return nibble == 32;
}

inline bool same_label(const ExtNames& names, Text text) {
  size_t size = 0;
  while (size < sizeof names.label && names.label[size] != '\0') ++size;
  return Text{names.label, size} == text;
}

// Calls visit(name) for each block device that the kernel knows, until it answers true. The answer is that.
template <typename Visit>
bool each_block_device(Visit&& visit) {
  char content[4096];
  Text lines = read_file("/proc/partitions", content);
  while (!lines.empty()) {
    Text line = take_until(lines, '\n');
    Text name;
    int column = 0;
    each_word(line, [&](Text word) {
      if (++column == 4) name = word;  // major minor blocks name
    });
    if (column == 4 && !(name == "name") && visit(name)) return true;
  }
  return false;
}

// The device that root= names, if it is there now.
inline bool locate(Text wanted, Path& device) {
  const bool by_uuid = wanted.starts_with("UUID=");
  if (by_uuid || wanted.starts_with("LABEL=")) {
    const Text value = unquoted(wanted.drop(by_uuid ? 5 : 6));
    return each_block_device([&](Text name) {
      device = Path{"/dev/", name};
      const ExtNames names = read_ext_names(device.c_str());
      return names.found && (by_uuid ? same_uuid(names, value) : same_label(names, value));
    });
  }
  device = wanted.starts_with("/") ? Path{wanted} : Path{"/dev/", wanted};
  return device.whole() && sys::is_block_device(device.c_str());
}

// Waits for the kernel's announcement of new devices: no sleep, no polling.
class Announcements {
 public:
  Announcements() {
    struct {
      uint16_t family, pad;
      uint32_t pid, groups;
    } address{16 /* AF_NETLINK */, 0, 0, 1};
    fd_ = sys::call(__NR_socket, 16, 3 /* SOCK_RAW */ | sys::kCloseOnExec, 15 /* NETLINK_KOBJECT_UEVENT */);
    if (fd_ >= 0) sys::call(__NR_bind, fd_, sys::as_long(&address), sizeof address);
  }
  ~Announcements() {
    if (fd_ >= 0) sys::close(fd_);
  }
  Announcements(const Announcements&) = delete;
  Announcements& operator=(const Announcements&) = delete;

  // Returns at an announcement, or after `milliseconds`; negative means for ever.
  void wait(int milliseconds) {
    struct {
      int fd;
      short events, revents;
    } poll{static_cast<int>(fd_), 1 /* POLLIN */, 0};
    // Where there is no socket a short rest takes its place.
    if (fd_ < 0 && (milliseconds < 0 || milliseconds > 20)) milliseconds = 20;
    if (sys::call(__NR_poll, sys::as_long(&poll), fd_ >= 0 ? 1 : 0, milliseconds) > 0) {
      char dropped[2048];
      sys::read(fd_, dropped, sizeof dropped);
    }
  }

 private:
  long fd_;
};

inline bool wait_for(const RootWish& wish, Path& device) {
  if (locate(wish.device, device)) return true;
  Announcements announcements;
  const uint64_t end = sys::now_ms() + uint64_t{wish.wait_seconds} * 1000;
  // Looked for again before the first wait: it may have come before the socket was there to tell of it.
  while (!locate(wish.device, device)) {
    const uint64_t now = sys::now_ms();
    if (!wish.wait_for_ever && now >= end) return false;
    announcements.wait(wish.wait_for_ever ? -1 : static_cast<int>(end - now));
  }
  return true;
}

// 0, or the -errno of the last try. A device that refuses to be written is mounted read-only, as the kernel
// does.
inline long mount_as(const Path& device, Text type, const RootWish& wish, bool read_only) {
  constexpr unsigned long kMountReadOnly = 1, kMountSilent = 1 << 15;
  constexpr long kNotPermitted = -13, kReadOnlyDevice = -30;  // EACCES, EROFS
  const Buffer<32> name{type};
  const Buffer<512> options{wish.options};
  const unsigned long flags = (read_only ? kMountReadOnly : 0) | kMountSilent;
  const long result = sys::mount(device.c_str(), kNewRoot, name.c_str(), flags, options.c_str());
  if (!read_only && (result == kNotPermitted || result == kReadOnlyDevice))
    return mount_as(device, type, wish, true);
  return result;
}

inline long mount_root(const RootWish& wish, const Path& device) {
  long result = sys::kNoDevice;
  Text types = wish.types;
  if (types.empty() && read_ext_names(device.c_str()).found) types = "ext4";
  if (!types.empty()) {
    while (!types.empty())
      if ((result = mount_as(device, take_until(types, ','), wish, wish.read_only)) == 0) break;
    return result;
  }
  // As the kernel does it: every file system that it knows and that lives on a device, in its order.
  char content[4096];
  Text lines = read_file("/proc/filesystems", content);
  while (!lines.empty()) {
    const Text line = take_until(lines, '\n');
    if (line.starts_with("nodev") || line.size < 2) continue;
    if ((result = mount_as(device, line.drop(1), wish, wish.read_only)) == 0) break;
  }
  return result;
}

}  // namespace guest
