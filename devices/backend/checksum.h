// SPDX-License-Identifier: Apache-2.0
//
// The Internet checksum (RFC 1071), for frames whose sender left it to us.
#pragma once

#include <cstddef>
#include <span>

namespace vmm::backend {

// Completes the checksum of `frame`, a TCP or UDP one, that covers everything from `start` and belongs at
// `start + offset`, where the sender left the sum of the pseudo header (virtio 1.2, 5.1.6.2). False, and
// nothing is changed, if that is not inside the frame.
[[nodiscard]] bool complete_checksum(std::span<std::byte> frame, size_t start, size_t offset);

}  // namespace vmm::backend
