// SPDX-License-Identifier: Apache-2.0
//
// A file that is loaded into the guest: its size is taken once, and reads are exact, so that a file that
// shrinks while it is read is an error and not a signal or a hang.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

// What changes when a file is written to or replaced.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t modified = 0;  // nanoseconds since 1970: its contents
  int64_t changed = 0;   // its contents or anything about it
};

class InputFile {
 public:
  // A regular file of at least one byte. `what` names its part in errors: "kernel", "initrd".
  static Result<InputFile> open(const std::string& path, std::string_view what);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] uint64_t size() const { return identity_.size; }
  [[nodiscard]] const FileIdentity& identity() const { return identity_; }

  // Exactly the bytes at `offset`, which must lie inside the file.
  Result<void> read(uint64_t offset, std::span<std::byte> to) const;
  // The same, straight into guest memory.
  Result<void> read(uint64_t offset, const GuestSlice& to) const;

 private:
  InputFile(std::string path, Fd fd, const FileIdentity& identity)
      : path_(std::move(path)), fd_(std::move(fd)), identity_(identity) {}
  Result<void> read(uint64_t offset, std::byte* to, uint64_t length) const;

  std::string path_;
  Fd fd_;
  FileIdentity identity_;
};

}  // namespace vmm::firmware
