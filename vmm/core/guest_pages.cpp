// SPDX-License-Identifier: Apache-2.0
#include "vmm/core/guest_pages.h"

#include <sys/mman.h>

#include <cassert>
#include <cstring>

namespace vmm {
namespace {

constexpr uintptr_t kPage = 4096;

}  // namespace

bool is_zero(const GuestSlice& slice) {
  // Each byte is compared with the one before it.
  const auto* const bytes = static_cast<const std::byte*>(slice.iov().iov_base);
  return slice.size() == 0 ||
         (*bytes == std::byte{0} && std::memcmp(bytes, bytes + 1, slice.size() - 1) == 0);
}

bool map_file_pages(const GuestSlice& slice, int fd, uint64_t offset) {
  const iovec to = slice.iov();
  assert(to.iov_len != 0 && to.iov_len % kPage == 0 && reinterpret_cast<uintptr_t>(to.iov_base) % kPage == 0);
  if (::mmap(to.iov_base, to.iov_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
             static_cast<off_t>(offset)) == MAP_FAILED) {
    return false;
  }
  ::madvise(to.iov_base, to.iov_len, MADV_DONTDUMP);  // as all of guest memory
  return true;
}

}  // namespace vmm
