// SPDX-License-Identifier: Apache-2.0
//
// The compressions of Linux kernels (arch/x86/boot/compressed/Makefile). Each is told by its first bytes
// (lib/decompress.c). LZO is recognised and not decompressed: Debian has no kernel of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "firmware/byte_stream.h"
#include "vmm/core/result.h"

namespace vmm::firmware {

enum class Codec : uint8_t { gzip, bzip2, lzma, xz, lz4, zstd, lzo };

[[nodiscard]] std::string_view to_string(Codec codec);

// From at least the first 8 bytes.
[[nodiscard]] std::optional<Codec> detect_codec(std::span<const std::byte> first);

[[nodiscard]] constexpr bool can_decompress(Codec codec) {
  return codec != Codec::lzo;
}

// One stream from its start to its end; what follows it in `source` is left alone. Output is bounded by the
// sink alone, which refuses; memory by the formats' own limits (at most 256 MiB of dictionary). Checksums are
// checked. Precondition: can_decompress(codec).
Result<void> decompress(Codec codec, ByteSource& source, ByteSink& sink);

}  // namespace vmm::firmware
