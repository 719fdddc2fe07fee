// SPDX-License-Identifier: Apache-2.0
#include "firmware/decompress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/firmware/images.h"

namespace vmm::firmware {
namespace {

using test::Bytes;
using testing::HasSubstr;

// Gives room in awkward pieces and refuses to grow beyond a limit.
class Collect final : public ByteSink {
 public:
  Collect(size_t piece, size_t limit) : piece_(piece), limit_(limit) {}
  std::span<std::byte> room() override {
    buffer_.resize(piece_);
    return buffer_;
  }
  Result<void> filled(size_t count) override {
    test::append(bytes, std::span{buffer_}.first(count));
    if (bytes.size() > limit_) return fail("more than the limit");
    return {};
  }
  Bytes bytes;

 private:
  size_t piece_;
  size_t limit_;
  Bytes buffer_;
};

struct Outcome {
  Result<void> result;
  Bytes bytes;
};
Outcome run(Codec codec, const Bytes& packed, size_t piece = 4096, size_t limit = 64 << 20) {
  const test::TempFile file{packed};
  const auto input = InputFile::open(file.path(), "test");
  EXPECT_TRUE(input);
  ByteSource source{*input, 0, packed.size()};
  Collect sink{piece, limit};
  auto result = decompress(codec, source, sink);
  return {std::move(result), std::move(sink.bytes)};
}

class Decompress : public testing::TestWithParam<Codec> {};

TEST_P(Decompress, GivesBackWhatWasPacked) {
  const Bytes original = test::pattern(1'000'000);
  const Bytes packed = test::compress(GetParam(), original);
  ASSERT_EQ(detect_codec(packed), GetParam());
  for (const size_t piece : {size_t{997}, size_t{65536}, size_t{16} << 20}) {
    const auto outcome = run(GetParam(), packed, piece);
    ASSERT_TRUE(outcome.result) << outcome.result.error().message;
    EXPECT_TRUE(outcome.bytes == original) << "in pieces of " << piece;
  }
}

TEST_P(Decompress, LeavesWhatFollowsAlone) {
  if (GetParam() == Codec::lz4) GTEST_SKIP() << "its legacy frame ends where its input ends";
  const Bytes original = test::pattern(10'000);
  Bytes packed = test::compress(GetParam(), original);
  test::append(packed, test::from_text("and some more"));
  const auto outcome = run(GetParam(), packed);
  ASSERT_TRUE(outcome.result) << outcome.result.error().message;
  EXPECT_TRUE(outcome.bytes == original);
}

TEST_P(Decompress, NamesTheFaultOfATruncatedStream) {
  const Bytes packed = test::compress(GetParam(), test::pattern(50'000));
  for (size_t size = 1; size < packed.size(); size += 1 + packed.size() / 97) {
    const auto outcome =
        run(GetParam(), Bytes(packed.begin(), packed.begin() + static_cast<ptrdiff_t>(size)));
    if (GetParam() == Codec::lz4 && size == 4) continue;  // a frame without blocks
    ASSERT_FALSE(outcome.result) << "at " << size << " of " << packed.size();
    EXPECT_THAT(outcome.result.error().message,
                HasSubstr(std::string{to_string(GetParam())} + " payload is damaged"));
  }
}

TEST_P(Decompress, SurvivesEveryKindOfDamage) {
  const Bytes original = test::pattern(20'000);
  const Bytes packed = test::compress(GetParam(), original);
  const size_t step = 1 + packed.size() / 400;
  for (size_t at = 0; at < packed.size(); at += step) {
    Bytes damaged = packed;
    damaged[at] ^= std::byte{0x41};
    const auto outcome = run(GetParam(), damaged, 4096, 1 << 20);
    EXPECT_LE(outcome.bytes.size(), (size_t{1} << 20) + 4096);
  }
}

TEST_P(Decompress, StopsWhenTheSinkRefuses) {
  const Bytes bomb = test::compress(GetParam(), Bytes(8 << 20));
  const auto outcome = run(GetParam(), bomb, 4096, 1 << 20);
  ASSERT_FALSE(outcome.result);
  EXPECT_EQ(outcome.result.error().message, "more than the limit");
  EXPECT_LE(outcome.bytes.size(), (size_t{1} << 20) + 4096);
}

INSTANTIATE_TEST_SUITE_P(Codecs, Decompress,
                         testing::Values(Codec::gzip, Codec::bzip2, Codec::lzma, Codec::xz, Codec::lz4,
                                         Codec::zstd),
                         [](const auto& param) { return std::string{to_string(param.param)}; });

TEST(DecompressLz4, TakesBlocksOfAnySizeAndRepeatedMagic) {
  const Bytes original = test::pattern(20 << 20);
  Bytes packed = test::compress(Codec::lz4, original);
  test::append(packed, test::compress(Codec::lz4, original));  // as cat(1) of two frames
  const auto outcome = run(Codec::lz4, packed, 16 << 20);
  ASSERT_TRUE(outcome.result) << outcome.result.error().message;
  EXPECT_EQ(outcome.bytes.size(), 2 * original.size());
}

TEST(DecompressLz4, RefusesBlocksLargerThanTheFormatAllows) {
  Bytes packed = test::from_text("\x02\x21\x4c\x18");
  test::poke(packed, 4, uint32_t{0x7fffffff});
  EXPECT_FALSE(run(Codec::lz4, packed).result);
}

TEST(DetectCodec, KnowsNothingOfOtherBytes) {
  EXPECT_EQ(detect_codec(test::from_text("\x89LZO....")), Codec::lzo);
  EXPECT_FALSE(can_decompress(Codec::lzo));
  EXPECT_EQ(detect_codec(test::from_text("\x7f"
                                         "ELF....")),
            std::nullopt);
  EXPECT_EQ(detect_codec({}), std::nullopt);
}

}  // namespace
}  // namespace vmm::firmware
