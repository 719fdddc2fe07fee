// SPDX-License-Identifier: Apache-2.0
//
// Unpacked kernels, kept from one start to the next: the pages that hold something, in a file from which they
// are mapped or read, and the relocations. An entry is named by the BLAKE2b of the compressed payload; a link
// named by a file's identity (device, inode, size, times) leads to it, so that the same file is not even read
// again.
//
// What is in the directory is trusted as far as it belongs to this user and nobody else may write to it. An
// entry is written under another name, synchronised and renamed, and never changed after that: machines have
// it mapped. Nothing here is an error to the caller: without the cache a kernel is unpacked, and one line of
// the log says so.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "firmware/input_file.h"
#include "firmware/kernel_image.h"
#include "vmm/core/fd.h"
#include "vmm/core/guest_memory.h"

namespace vmm::firmware {

class KernelCache {
 public:
  static constexpr size_t kMostEntries = 6;  // the ones used last stay

  struct Entry {
    Fd file;
    KernelImage image;
    uint64_t pages_at = 0;  // where image.pages begin in the file, one after the other; a multiple of 4 KiB

    // Fills all of `to`, which it uses up, with the bytes from `offset` on; false if they cannot be had.
    [[nodiscard]] bool read(uint64_t offset, std::span<iovec> to) const;
  };

  // $VMM_CACHE/unpacked, $XDG_CACHE_HOME/vmm/unpacked or ~/.cache/vmm/unpacked; empty if none is set.
  static std::filesystem::path user_directory();

  // Makes the directory if it is not there. None if it cannot be used. A file that has changed less than
  // `settled` ago is known by its content only.
  static std::optional<KernelCache> open(const std::filesystem::path& directory,
                                         std::chrono::seconds settled = std::chrono::seconds{2});

  // Looks for the kernel whose compressed payload is [offset, offset + size) of `file`. None, and name() is
  // set, if there is no entry that can be used; name() is empty if the payload cannot be read.
  std::optional<Entry> find(const InputFile& file, uint64_t offset, uint64_t size);

  // Keeps the image, whose first byte is at `base` and which nobody has changed yet, for the payload that the
  // last find() did not know. Then deletes the entries beyond kMostEntries.
  void store(const InputFile& file, const KernelImage& image, const GuestMemory& memory, Gpa base);

  [[nodiscard]] const std::string& name() const { return name_; }  // of the entry: the digest

 private:
  KernelCache(std::filesystem::path path, Fd directory, std::chrono::seconds settled)
      : path_(std::move(path)), directory_(std::move(directory)), settled_(settled) {}
  [[nodiscard]] std::optional<Entry> read(const std::string& name) const;
  [[nodiscard]] Result<void> write(const std::string& name, const KernelImage& image,
                                   const GuestMemory& memory, Gpa base) const;
  void link(const InputFile& file) const;
  void prune() const;

  std::filesystem::path path_;  // for messages
  Fd directory_;
  std::chrono::seconds settled_;
  std::string name_;
};

}  // namespace vmm::firmware
