// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/chain.h"

#include <algorithm>

namespace vmm::virtio {
namespace {

// Calls `act(slice)` for each piece of the `length` bytes from `offset`. The caller has checked that they
// exist.
template <typename Act>
void for_each_piece(std::span<const GuestSlice> buffers, size_t offset, size_t length, Act act) {
  for (const auto& buffer : buffers) {
    if (length == 0) return;
    if (offset >= buffer.size()) {
      offset -= buffer.size();
      continue;
    }
    const size_t piece = std::min(length, buffer.size() - offset);
    act(buffer.sub(offset, piece));
    offset = 0;
    length -= piece;
  }
}

bool inside(size_t size, size_t offset, size_t length) {
  return offset <= size && length <= size - offset;
}

void append_iov(std::span<const GuestSlice> buffers, size_t offset, size_t length, std::vector<iovec>& to) {
  for_each_piece(buffers, offset, length, [&](const GuestSlice& piece) { to.push_back(piece.iov()); });
}

}  // namespace

bool Chain::copy_in(size_t offset, std::span<std::byte> to) const {
  if (!inside(readable_size_, offset, to.size())) return false;
  for_each_piece(readable(), offset, to.size(), [&](const GuestSlice& piece) {
    piece.copy_in(to.first(piece.size()));
    to = to.subspan(piece.size());
  });
  return true;
}

bool Chain::copy_out(size_t offset, std::span<const std::byte> from) const {
  if (!inside(writable_size_, offset, from.size())) return false;
  for_each_piece(writable(), offset, from.size(), [&](const GuestSlice& piece) {
    piece.copy_out(from.first(piece.size()));
    from = from.subspan(piece.size());
  });
  return true;
}

bool Chain::readable_iov(size_t offset, size_t length, std::vector<iovec>& to) const {
  if (!inside(readable_size_, offset, length)) return false;
  append_iov(readable(), offset, length, to);
  return true;
}

bool Chain::writable_iov(size_t offset, size_t length, std::vector<iovec>& to) const {
  if (!inside(writable_size_, offset, length)) return false;
  append_iov(writable(), offset, length, to);
  return true;
}

}  // namespace vmm::virtio
