// SPDX-License-Identifier: Apache-2.0
#include "firmware/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace vmm::firmware {

Result<InputFile> InputFile::open(const std::string& path, std::string_view what) {
  // O_NONBLOCK: opening a FIFO that has no writer would wait for one.
  Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) return fail(errno, "open {} {}", what, path);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail(errno, "look at {} {}", what, path);
  if (S_ISDIR(status.st_mode)) return fail("open {} {}: a directory, not a file", what, path);
  if (!S_ISREG(status.st_mode)) return fail("open {} {}: not a regular file", what, path);
  if (status.st_size <= 0) return fail("open {} {}: the file is empty", what, path);
  const auto nanoseconds = [](const timespec& time) {
    return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + static_cast<int64_t>(time.tv_nsec);
  };
  return InputFile{path,
                   std::move(fd),
                   {.device = status.st_dev,
                    .inode = status.st_ino,
                    .size = static_cast<uint64_t>(status.st_size),
                    .modified = nanoseconds(status.st_mtim),
                    .changed = nanoseconds(status.st_ctim)}};
}

Result<void> InputFile::read(uint64_t offset, std::byte* to, uint64_t length) const {
  if (offset > size() || length > size() - offset) {
    return fail("read {}: ends at byte {}, {} more are needed at byte {}", path_, size(), length, offset);
  }
  while (length > 0) {
    const ssize_t got = ::pread(fd_.get(), to, length, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno, "read {}", path_);
    if (got == 0) return fail("read {}: became shorter while it was being read", path_);
    to += got;
    offset += static_cast<uint64_t>(got);
    length -= static_cast<uint64_t>(got);
  }
  return {};
}

Result<void> InputFile::read(uint64_t offset, std::span<std::byte> to) const {
  return read(offset, to.data(), to.size());
}

Result<void> InputFile::read(uint64_t offset, const GuestSlice& to) const {
  const iovec into = to.iov();
  return read(offset, static_cast<std::byte*>(into.iov_base), into.iov_len);
}

}  // namespace vmm::firmware
