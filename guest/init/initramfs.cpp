// SPDX-License-Identifier: Apache-2.0
//
// /init of the initramfs for kernels that have their drivers as modules, as distributions ship them.
//
//   1. marks 0x01           2. loads the modules that /lib/modules/VERSION/initramfs.load lists and the
//                           machine has a use for, in that order
//   3. finds the root file system that root= names, and waits for it if it must
//   4. mounts it, gives it /dev, /proc, /sys and the modules          5. marks 0x02 and becomes its init
//
// An initramfs that has an init of its own (/sbin/init) is itself the root: steps 3 and 4 fall away.
// Where no root is found it says why and gives a shell; with panic=N it lets the kernel panic.
//
// Missing: it checks no file system, the real root does; no PARTUUID=, no NFS; UUID= and LABEL= know
// ext2/3/4.
#include "guest/init/cmdline.h"
#include "guest/init/mark.h"
#include "guest/init/root.h"
#include "guest/init/runtime.h"

namespace guest {
namespace {

constexpr unsigned long kMountMove = 8192, kMountBind = 4096;
constexpr unsigned long kNoSuid = 2, kNoDev = 4, kNoExec = 8;

// File name of a module's path without directories and ".ko".
Text module_name(Text path) {
  for (size_t i = path.size; i > 0; --i) {
    if (path[i - 1] != '/') continue;
    path = path.drop(i);
    break;
  }
  return path.first(path.find('.'));
}

// uname -r, in `utsname` of the kernel: six fields of 65 bytes, the release is the third.
struct Release {
  char fields[6][65] = {};
  Release() { sys::call(__NR_uname, sys::as_long(fields)); }
  Text text() const { return Text{fields[2]}; }
};

// Whether the machine has the device that a module is for: "-" (always), "virtio:ID" or "acpi:HID".
// Asked before each module: buses come first in the list, and their drivers bring the devices up.
bool is_wanted(Text condition) {
  Text id = condition;
  const Text bus = take_until(id, ':');
  if (bus == "acpi") return sys::access(Path{"/sys/bus/acpi/devices/", id, ":00"}.c_str()) == 0;
  if (!(bus == "virtio")) return true;
  for (long index = 0; index < 1024; ++index) {
    char digits[24], content[16];
    const Path path{"/sys/bus/virtio/devices/virtio", decimal(index, digits), "/device"};
    const Text device = read_file(path.c_str(), content);  // "0x0002\n"
    if (device.empty()) return false;
    if (hexadecimal(device) == number(id)) return true;
  }
  return false;
}

void load_module(Text path, Text parameters) {
  const long fd = sys::open(path.data, sys::kReadOnly);
  const long result = fd < 0 ? fd : sys::finit_module(fd, parameters.data);
  if (fd >= 0) sys::close(fd);
  // ENODEV: the module found nothing to drive, and that is not an error of the boot.
  if (result == 0 || result == sys::kExists || result == sys::kNoDevice) return;
  char digits[24];
  say("init: load ", path, ": error ", decimal(-result, digits));
}

void load_modules(Text release, Text cmdline) {
  const Path directory{"/lib/modules/", release};
  char content[8192];
  Text list = read_file(Path{directory.text(), "/initramfs.load"}.c_str(), content);
  while (!list.empty()) {
    Text relative = take_until(list, '\n');
    const Text condition = take_until(relative, ' ');
    if (relative.empty()) continue;
    Buffer<1024> parameters;
    module_parameters(cmdline, module_name(relative), parameters);
    // Parameters on the command line are a wish: virtio_mmio.device= describes what no bus shows.
    if (!parameters.empty() || is_wanted(condition))
      load_module(Path{directory.text(), "/", relative}.text(), parameters.text());
  }
}

void tell_devices() {
  Buffer<400> names;
  each_block_device([&](Text name) {
    names.add(" ").add(name);
    return false;
  });
  if (names.empty())
    say("init: the kernel sees no block device: was a disk given, and is its driver in this initramfs?");
  else
    say("init: block devices:", names.text());
}

// Does not return: a shell, or the end of PID 1, which is a kernel panic.
[[noreturn]] void give_up(const RootWish& wish, char** envp) {
  tell_devices();
  if (!wish.panics) {
    say("init: here is a shell; `exit` tries again, `poweroff -f` ends the machine");
    char shell[] = "/bin/busybox", name[] = "sh", flag[] = "-c";
    char script[] = "setsid cttyhack sh -l; exec /init";
    char* arguments[] = {name, flag, script, nullptr};
    sys::execve(shell, arguments, envp);
  }
  sys::exit(1);
}

void become_init(const RootWish& wish, char** argv, char** envp) {
  const Path wished{wish.init};
  // Our own images have mark as their init, which does it from the real root.
  if (!wished.empty() || sys::access("/sbin/init.real") < 0) mark(Mark::init);
  const char* const usual[] = {"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"};
  // The kernel hands words that it does not know to init: they are handed on.
  const auto become = [&](const char* path) {
    argv[0] = const_cast<char*>(path);
    sys::execve(path, argv, envp);
  };
  if (!wished.empty()) {
    become(wished.c_str());
    say("init: run ", wished.text(), " (init=): not there or not a program; trying the usual ones");
  }
  for (const char* path : usual) become(path);
  say("init: the root file system has no init (/sbin/init, /etc/init, /bin/init, /bin/sh)");
}

// What follows runs with the new root as the current directory.
void enter_new_root(Text release) {
  sys::chdir(kNewRoot);
  sys::mount("/dev", "dev", nullptr, kMountMove, nullptr);
  sys::mount("/proc", "proc", nullptr, kMountMove, nullptr);
  sys::mount("/sys", "sys", nullptr, kMountMove, nullptr);
  // A root without modules for this kernel sees those of the initramfs: drivers load on demand, nothing is
  // copied.
  if (sys::is_directory("lib/modules") && sys::access(Path{"lib/modules/", release}.c_str()) < 0)
    sys::mount("/lib/modules", "lib/modules", nullptr, kMountBind, nullptr);
  // The initramfs lives in memory for ever; its largest file is of no more use.
  sys::unlink("/bin/busybox");
  sys::mount(".", "/", nullptr, kMountMove, nullptr);
  sys::chroot(".");
  sys::chdir("/");
}

}  // namespace

int run(int, char** argv, char** envp) {
  mark(Mark::initramfs);
  sys::mount("dev", "/dev", "devtmpfs", kNoSuid, "mode=0755");
  sys::mkdir("/proc");
  sys::mount("proc", "/proc", "proc", kNoSuid | kNoDev | kNoExec, nullptr);
  sys::mkdir("/sys");
  sys::mount("sys", "/sys", "sysfs", kNoSuid | kNoDev | kNoExec, nullptr);

  char content[4096];
  const Text cmdline = read_file("/proc/cmdline", content);
  const RootWish wish = parse_root_wish(cmdline);
  const Release release;
  load_modules(release.text(), cmdline);

  char digits[24];
  if (sys::access("/sbin/init") == 0) {
    become_init(wish, argv, envp);
    return 1;
  }
  if (wish.device.empty()) {
    say("init: no root= on the kernel's command line: which disk holds the root file system? "
        "(root=/dev/vda)");
    give_up(wish, envp);
  }
  Path device;
  if (!wait_for(wish, device)) {
    say("init: root=", wish.device, " did not appear within ", decimal(wish.wait_seconds, digits), " s");
    give_up(wish, envp);
  }
  if (const long error = mount_root(wish, device); error != 0) {
    say("init: mount ", device.text(), " as root: error ", decimal(-error, digits),
        error == sys::kInvalid ? " (no file system that this kernel knows)" : "");
    give_up(wish, envp);
  }
  enter_new_root(release.text());
  become_init(wish, argv, envp);
  return 1;
}

}  // namespace guest
