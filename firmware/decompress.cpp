// SPDX-License-Identifier: Apache-2.0
#include "firmware/decompress.h"

#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cassert>
#include <cstring>
#include <memory>
#include <string>

#include "firmware/wire.h"

namespace vmm::firmware {
namespace {

constexpr uint64_t kMemoryLimit = 256ULL << 20;

// What one call of a library did.
struct Step {
  size_t used = 0;
  size_t made = 0;
  bool done = false;
  const char* fault = nullptr;
};

tl::unexpected<Error> damaged(const ByteSource& source, Codec codec, std::string_view fault) {
  return fail("decompress {}: its {} payload is damaged: {}", source.file().path(), to_string(codec), fault);
}

// Feeds a library that works in steps. Ends, because each step consumes, produces, is the last, or is a
// fault.
template <typename Stepper>
Result<void> pump(Codec codec, ByteSource& source, ByteSink& sink, Stepper step) {
  std::span<const std::byte> in;
  bool ended = false;
  while (true) {
    if (in.empty() && !ended) {
      VMM_TRY_ASSIGN(in, source.next());
      ended = in.empty();
    }
    const Step did = step(in, sink.room(), ended);
    if (did.fault != nullptr) return damaged(source, codec, did.fault);
    in = in.subspan(did.used);
    if (did.made > 0) VMM_TRY(sink.filled(did.made));
    if (did.done) return {};
    if (did.used == 0 && did.made == 0 && (ended || !in.empty()))
      return damaged(source, codec, "it ends too early");
  }
}

unsigned to_unsigned(size_t size) {
  return static_cast<unsigned>(std::min<size_t>(size, 1U << 30));
}

Result<void> inflate_gzip(ByteSource& source, ByteSink& sink) {
  struct Stream : z_stream {
    Stream() : z_stream{} {}
    ~Stream() { ::inflateEnd(this); }
  } stream;
  constexpr int kGzipOnly = 16 + MAX_WBITS;
  if (::inflateInit2(&stream, kGzipOnly) != Z_OK)
    return fail("decompress {}: out of memory", source.file().path());
  return pump(Codec::gzip, source, sink, [&](auto in, auto out, bool) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = to_unsigned(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = to_unsigned(out.size());
    const unsigned in_before = stream.avail_in;
    const unsigned out_before = stream.avail_out;
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    Step did{.used = in_before - stream.avail_in, .made = out_before - stream.avail_out};
    did.done = result == Z_STREAM_END;
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
      did.fault = stream.msg != nullptr ? stream.msg : "zlib refuses it";
    }
    return did;
  });
}

Result<void> decompress_bzip2(ByteSource& source, ByteSink& sink) {
  struct Stream : bz_stream {
    Stream() : bz_stream{} {}
    ~Stream() { ::BZ2_bzDecompressEnd(this); }
  } stream;
  if (::BZ2_bzDecompressInit(&stream, 0, 0) != BZ_OK)
    return fail("decompress {}: out of memory", source.file().path());
  return pump(Codec::bzip2, source, sink, [&](auto in, auto out, bool) {
    stream.next_in = reinterpret_cast<char*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = to_unsigned(in.size());
    stream.next_out = reinterpret_cast<char*>(out.data());
    stream.avail_out = to_unsigned(out.size());
    const unsigned in_before = stream.avail_in;
    const unsigned out_before = stream.avail_out;
    const int result = ::BZ2_bzDecompress(&stream);
    Step did{.used = in_before - stream.avail_in, .made = out_before - stream.avail_out};
    did.done = result == BZ_STREAM_END;
    if (result != BZ_OK && result != BZ_STREAM_END) did.fault = "a checksum or code is wrong";
    return did;
  });
}

const char* lzma_fault(lzma_ret result) {
  switch (result) {
    case LZMA_OK:
    case LZMA_STREAM_END:
    case LZMA_BUF_ERROR:
      return nullptr;
    case LZMA_MEM_ERROR:
      return "out of memory";
    case LZMA_MEMLIMIT_ERROR:
      return "its dictionary is larger than 256 MiB";
    case LZMA_FORMAT_ERROR:
      return "not this format after all";
    case LZMA_OPTIONS_ERROR:
      return "it uses options that liblzma does not know";
    default:
      return "a checksum or code is wrong";
  }
}

Result<void> decompress_lzma(Codec codec, ByteSource& source, ByteSink& sink) {
  struct Stream : lzma_stream {
    Stream() : lzma_stream LZMA_STREAM_INIT {}
    ~Stream() { ::lzma_end(this); }
  } stream;
  const lzma_ret started = codec == Codec::xz ? ::lzma_stream_decoder(&stream, kMemoryLimit, 0)
                                              : ::lzma_alone_decoder(&stream, kMemoryLimit);
  if (started != LZMA_OK) return fail("decompress {}: out of memory", source.file().path());
  return pump(codec, source, sink, [&](auto in, auto out, bool ended) {
    stream.next_in = reinterpret_cast<const uint8_t*>(in.data());
    stream.avail_in = in.size();
    stream.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream.avail_out = out.size();
    const lzma_ret result = ::lzma_code(&stream, ended ? LZMA_FINISH : LZMA_RUN);
    return Step{.used = in.size() - stream.avail_in,
                .made = out.size() - stream.avail_out,
                .done = result == LZMA_STREAM_END,
                .fault = lzma_fault(result)};
  });
}

Result<void> decompress_zstd(ByteSource& source, ByteSink& sink) {
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream{::ZSTD_createDStream(),
                                                                        ::ZSTD_freeDStream};
  if (!stream) return fail("decompress {}: out of memory", source.file().path());
  // Kernels are compressed with --ultra -22: a window of 128 MiB, which is also the library's default limit.
  return pump(Codec::zstd, source, sink, [&](auto in, auto out, bool) {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const size_t result = ::ZSTD_decompressStream(stream.get(), &to, &from);
    const bool bad = ::ZSTD_isError(result) != 0;
    return Step{.used = from.pos,
                .made = to.pos,
                .done = !bad && result == 0,
                .fault = bad ? ::ZSTD_getErrorName(result) : nullptr};
  });
}

// Collects exact pieces from a source that hands out what it likes.
class Collector {
 public:
  explicit Collector(ByteSource& source) : source_(source) {}

  // Up to to.size() bytes; fewer only at the end.
  Result<size_t> take(std::span<std::byte> to) {
    size_t got = 0;
    while (got < to.size()) {
      if (piece_.empty()) {
        VMM_TRY_ASSIGN(piece_, source_.next());
        if (piece_.empty()) break;
      }
      const size_t count = std::min(piece_.size(), to.size() - got);
      std::memcpy(to.data() + got, piece_.data(), count);
      piece_ = piece_.subspan(count);
      got += count;
    }
    return got;
  }

 private:
  ByteSource& source_;
  std::span<const std::byte> piece_;
};

Result<void> put(ByteSink& sink, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto room = sink.room();
    const size_t count = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), count);
    VMM_TRY(sink.filled(count));
    bytes = bytes.subspan(count);
  }
  return {};
}

// The legacy frame (lz4_Frame_format.md, "Legacy frame"): a magic number, then blocks that each begin with
// their compressed size and hold at most 8 MiB. It has no end mark and no checksum: it ends where the input
// ends.
constexpr uint32_t kLz4LegacyMagic = 0x184c2102;

Result<void> decompress_lz4(ByteSource& source, ByteSink& sink) {
  constexpr int kBlock = 8 << 20;
  Collector from{source};
  std::vector<std::byte> packed;
  std::vector<std::byte> unpacked;
  while (true) {
    uint32_t length = 0;
    VMM_TRY_ASSIGN(const size_t got, from.take(std::as_writable_bytes(std::span{&length, 1})));
    if (got == 0) return {};
    if (got < sizeof(length)) return damaged(source, Codec::lz4, "it ends within a block's size");
    if (length == kLz4LegacyMagic) continue;
    if (length == 0 || length > static_cast<uint32_t>(LZ4_COMPRESSBOUND(kBlock))) {
      return damaged(source, Codec::lz4, "a block has an impossible size");
    }
    packed.resize(length);
    VMM_TRY_ASSIGN(const size_t filled, from.take(packed));
    if (filled < length) return damaged(source, Codec::lz4, "it ends within a block");

    const auto room = sink.room();
    const bool direct = room.size() >= static_cast<size_t>(kBlock);
    if (!direct) unpacked.resize(kBlock);
    std::byte* const into = direct ? room.data() : unpacked.data();
    const int made = ::LZ4_decompress_safe(reinterpret_cast<const char*>(packed.data()),
                                           reinterpret_cast<char*>(into), static_cast<int>(length), kBlock);
    if (made <= 0) return damaged(source, Codec::lz4, "a code is wrong");
    const auto count = static_cast<size_t>(made);
    VMM_TRY(direct ? sink.filled(count) : put(sink, std::span{unpacked}.first(count)));
  }
}

struct Magic {
  Codec codec;
  std::string_view bytes;
};
using namespace std::string_view_literals;
constexpr std::array kMagics{
    Magic{Codec::gzip, "\x1f\x8b"sv},
    Magic{Codec::xz,
          "\xfd"
          "7zXZ\0"sv},
    Magic{Codec::zstd, "\x28\xb5\x2f\xfd"sv},
    Magic{Codec::lz4, "\x02\x21\x4c\x18"sv},
    Magic{Codec::bzip2, "BZh"sv},
    Magic{Codec::lzo, "\x89LZO"sv},
    Magic{Codec::lzma, "\x5d\0\0"sv},
};

}  // namespace

std::string_view to_string(Codec codec) {
  switch (codec) {
    case Codec::gzip:
      return "gzip";
    case Codec::bzip2:
      return "bzip2";
    case Codec::lzma:
      return "lzma";
    case Codec::xz:
      return "xz";
    case Codec::lz4:
      return "lz4";
    case Codec::zstd:
      return "zstd";
    case Codec::lzo:
      return "lzo";
  }
  return "unknown";
}

std::optional<Codec> detect_codec(std::span<const std::byte> first) {
  for (const auto& magic : kMagics) {
    if (first.size() >= magic.bytes.size() &&
        std::memcmp(first.data(), magic.bytes.data(), magic.bytes.size()) == 0) {
      return magic.codec;
    }
  }
  return std::nullopt;
}

Result<void> decompress(Codec codec, ByteSource& source, ByteSink& sink) {
  switch (codec) {
    case Codec::gzip:
      return inflate_gzip(source, sink);
    case Codec::bzip2:
      return decompress_bzip2(source, sink);
    case Codec::lzma:
    case Codec::xz:
      return decompress_lzma(codec, source, sink);
    case Codec::lz4:
      return decompress_lz4(source, sink);
    case Codec::zstd:
      return decompress_zstd(source, sink);
    case Codec::lzo:
      break;
  }
  assert(false);
  return fail("decompress {}: {} is not supported", source.file().path(), to_string(codec));
}

}  // namespace vmm::firmware
