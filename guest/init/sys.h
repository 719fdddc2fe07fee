// SPDX-License-Identifier: Apache-2.0
//
// The few Linux system calls that the guest's init programs make, without a C library.
//
// Why no libc: a static glibc asks CPUID some sixty times before main(), and each CPUID is an exit of the VM.
// These programs are the first user space of every boot, so they do without, and are a few kilobytes.
//
// Every call returns what the kernel returns: a value, or -errno.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <asm/unistd.h>

namespace guest::sys {

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  long result = number;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}

inline long as_long(const void* pointer) {
  return reinterpret_cast<long>(pointer);
}

// From <fcntl.h>, <sys/stat.h>, <sys/reboot.h>: glibc's headers would drag in declarations we do not link.
inline constexpr int kReadOnly = 0;
inline constexpr int kWriteOnly = 1;
inline constexpr int kCloseOnExec = 02000000;
inline constexpr int kDirectory = 0200000;
inline constexpr uint32_t kTypeMask = 0170000;
inline constexpr uint32_t kTypeBlock = 0060000;
inline constexpr uint32_t kTypeDirectory = 0040000;

inline constexpr long kNoEntry = -2;    // ENOENT
inline constexpr long kExists = -17;    // EEXIST
inline constexpr long kNoDevice = -19;  // ENODEV
inline constexpr long kInvalid = -22;   // EINVAL

inline long open(const char* path, int flags) {
  return call(__NR_open, as_long(path), flags | kCloseOnExec, 0);
}
inline long close(long fd) {
  return call(__NR_close, fd);
}
inline long read(long fd, void* to, size_t size) {
  return call(__NR_read, fd, as_long(to), static_cast<long>(size));
}
inline long pread(long fd, void* to, size_t size, int64_t offset) {
  return call(__NR_pread64, fd, as_long(to), static_cast<long>(size), offset);
}
inline long pwrite(long fd, const void* from, size_t size, int64_t offset) {
  return call(__NR_pwrite64, fd, as_long(from), static_cast<long>(size), offset);
}
inline long write(long fd, const void* from, size_t size) {
  return call(__NR_write, fd, as_long(from), static_cast<long>(size));
}
inline long mkdir(const char* path) {
  return call(__NR_mkdir, as_long(path), 0755);
}
inline long unlink(const char* path) {
  return call(__NR_unlink, as_long(path));
}
inline long access(const char* path) {
  return call(__NR_access, as_long(path), 0);
}
inline long chdir(const char* path) {
  return call(__NR_chdir, as_long(path));
}
inline long chroot(const char* path) {
  return call(__NR_chroot, as_long(path));
}
inline long mount(const char* what, const char* where, const char* type, unsigned long flags,
                  const char* options) {
  return call(__NR_mount, as_long(what), as_long(where), as_long(type), static_cast<long>(flags),
              as_long(options));
}
inline long execve(const char* path, char* const* argv, char* const* envp) {
  return call(__NR_execve, as_long(path), as_long(argv), as_long(envp));
}
inline long finit_module(long fd, const char* parameters) {
  return call(__NR_finit_module, fd, as_long(parameters), 0);
}
[[noreturn]] inline void exit(int status) {
  for (;;) call(__NR_exit_group, status);
}

// The mode of a file (type and permissions), or -errno. struct stat of x86-64: st_mode is at byte 24 of 144.
inline long mode_of(const char* path) {
  alignas(8) unsigned char stat[144] = {};
  if (const long error = call(__NR_stat, as_long(path), as_long(stat)); error < 0) return error;
  uint32_t mode = 0;
  __builtin_memcpy(&mode, stat + 24, sizeof mode);
  return static_cast<long>(mode);
}
inline bool is_block_device(const char* path) {
  const long mode = mode_of(path);
  return mode >= 0 && (static_cast<uint32_t>(mode) & kTypeMask) == kTypeBlock;
}
inline bool is_directory(const char* path) {
  const long mode = mode_of(path);
  return mode >= 0 && (static_cast<uint32_t>(mode) & kTypeMask) == kTypeDirectory;
}

// Milliseconds of CLOCK_MONOTONIC.
inline uint64_t now_ms() {
  struct {
    int64_t seconds, nanoseconds;
  } time{};
  call(__NR_clock_gettime, 1, as_long(&time));
  return static_cast<uint64_t>(time.seconds) * 1000 + static_cast<uint64_t>(time.nanoseconds) / 1000000;
}

}  // namespace guest::sys
