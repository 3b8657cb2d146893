#include "blockfs/layer_decompressor.h"

#include <gmock/gmock.h>

#include <random>

#include "common/error.h"
#include "tests/support/compression.h"
#include "tests/support/streams.h"

namespace obd::blockfs {
namespace {

using test::Bytes;
using test::gzip;
using test::joined;
using test::to_bytes;
using test::to_text;
using test::zstd;
using testing::HasSubstr;

/// What comes out of `stream` fed in pieces, with the first split at `first_bytes`.
std::string unpacked(std::span<const std::byte> stream, size_t first_bytes = SIZE_MAX,
                     size_t piece_bytes = SIZE_MAX, size_t window_bytes = 64 << 10) {
  test::CollectingSink sink(window_bytes);
  LayerDecompressor decompressor("layer", sink);
  const auto first = stream.first(std::min(first_bytes, stream.size()));
  decompressor.feed(first);
  test::PieceStream rest(stream.subspan(first.size()), piece_bytes);
  for (auto piece = rest.next(); !piece.empty(); piece = rest.next()) decompressor.feed(piece);
  decompressor.finish();
  return to_text(sink.made());
}

std::string refusal(std::span<const std::byte> stream) {
  try {
    unpacked(stream);
  } catch (const DataError& error) {
    return error.what();
  }
  ADD_FAILURE() << "it was accepted";
  return {};
}

/// Text with repetitions, so that matches and literals occur.
const std::string& sample() {
  static const std::string text = [] {
    std::mt19937 random(7);
    std::string made;
    for (int i = 0; i < 60; ++i) made += std::string(random() % 40, static_cast<char>('a' + random() % 26));
    return made;
  }();
  return text;
}

/// A gzip member with every optional header field, the header's own CRC too.
Bytes gzip_with_all_fields(const std::string& content) {
  std::string extra = "XX";
  std::string name = "layer.tar";
  std::string comment = "a comment";
  gz_header header{};
  header.time = 12345;
  header.extra = reinterpret_cast<Bytef*>(extra.data());
  header.extra_len = static_cast<uInt>(extra.size());
  header.name = reinterpret_cast<Bytef*>(name.data());
  header.comment = reinterpret_cast<Bytef*>(comment.data());
  header.hcrc = 1;
  return gzip(to_bytes(content), &header);
}

std::vector<Bytes> streams() {
  const Bytes skippable = to_bytes(std::string_view("\x5A\x2A\x4D\x18\x03\0\0\0abc", 11));
  const Bytes text = to_bytes(sample());
  return {gzip(text),
          gzip_with_all_fields(sample()),
          gzip(text, nullptr, 0),
          zstd(text),
          zstd(text, false),
          joined({skippable, zstd(text)}),
          joined({zstd(text), skippable}),
          joined({gzip(to_bytes(sample().substr(0, 10))), gzip_with_all_fields(sample().substr(10, 20)),
                  gzip({}), gzip(to_bytes(sample().substr(30)))}),
          joined({zstd(to_bytes(sample().substr(0, 10))), zstd({}), zstd(to_bytes(sample().substr(10)))})};
}

TEST(LayerDecompressor, MakesTheSameHoweverTheStreamIsSplit) {
  for (const Bytes& stream : streams()) {
    for (size_t at = 0; at <= stream.size(); ++at) ASSERT_EQ(unpacked(stream, at), sample()) << at;
    for (const size_t piece : {1, 2, 3, 5, 100}) ASSERT_EQ(unpacked(stream, 0, piece), sample()) << piece;
    ASSERT_EQ(unpacked(stream, 0, 1, 1), sample()) << "byte by byte on both sides";
    ASSERT_EQ(unpacked(stream, SIZE_MAX, SIZE_MAX, 1), sample());
  }
}

TEST(LayerDecompressor, CutAtAnyByteItThrowsDataError) {
  const Bytes text = to_bytes(sample());
  for (const Bytes& stream : {gzip(text), gzip_with_all_fields(sample()), zstd(text), zstd(text, false)}) {
    const size_t magic =
        stream[0] == std::byte{0x1F} ? 2 : 4;  // shorter than that, nobody can tell what it is
    for (size_t end = magic; end < stream.size(); ++end) {
      EXPECT_THAT(refusal(std::span(stream).first(end)), HasSubstr("cut off")) << end;
    }
  }
}

TEST(LayerDecompressor, EndsOnlyBetweenMembers) {
  const Bytes first = gzip(to_bytes("one"));
  const Bytes both = joined({first, gzip(to_bytes("two"))});
  EXPECT_EQ(unpacked(std::span(both).first(first.size())), "one");
  for (size_t end = first.size() + 1; end < both.size(); ++end) {
    EXPECT_THAT(refusal(std::span(both).first(end)), HasSubstr("cut off")) << end;
  }
}

TEST(LayerDecompressor, DamagedChecksumOrLengthIsNoticed) {
  const Bytes stream = gzip(to_bytes(sample()));
  for (size_t back = 1; back <= 8; ++back) {
    Bytes damaged = stream;
    damaged[damaged.size() - back] ^= std::byte{1};
    EXPECT_THAT(refusal(damaged), HasSubstr("CRC or length")) << back;
  }
  Bytes frame = zstd(to_bytes(sample()));
  frame.back() ^= std::byte{1};
  EXPECT_THAT(refusal(frame), HasSubstr("checksum"));
}

TEST(LayerDecompressor, DamagedByteIsNoticedOrMakesNoDifference) {
  const Bytes stream = gzip_with_all_fields(sample());
  size_t noticed = 0;
  for (size_t at = 2; at < stream.size(); ++at) {  // with another magic number it is plain
    Bytes damaged = stream;
    damaged[at] ^= std::byte{0x10};
    try {
      EXPECT_EQ(unpacked(damaged), sample()) << at;  // a match may be copied from elsewhere
    } catch (const DataError&) {
      ++noticed;
    }
  }
  EXPECT_GT(noticed, stream.size() - 10);
}

TEST(LayerDecompressor, ZeroesMayFollowAGzipStreamNothingElse) {
  const Bytes stream = gzip(to_bytes("content"));
  EXPECT_EQ(unpacked(joined({stream, Bytes(1)})), "content");
  EXPECT_EQ(unpacked(joined({stream, Bytes(100000)}), 5, 1000), "content");
  EXPECT_THAT(refusal(joined({stream, to_bytes("garbage")})), HasSubstr("no gzip magic"));
  EXPECT_THAT(refusal(joined({stream, Bytes(3), to_bytes("x")})), HasSubstr("garbage"));
  EXPECT_THAT(refusal(joined({stream, Bytes(3), stream})), HasSubstr("garbage"));
}

TEST(LayerDecompressor, GarbageBehindZstdFramesIsRefused) {
  const Bytes stream = zstd(to_bytes("content"));
  EXPECT_FALSE(refusal(joined({stream, to_bytes("garbage")})).empty());
  EXPECT_FALSE(refusal(joined({stream, Bytes(8)})).empty());
}

TEST(LayerDecompressor, UnknownMethodAndFlagsAreRefused) {
  Bytes stream = gzip(to_bytes("x"));
  stream[2] = std::byte{7};
  EXPECT_THAT(refusal(stream), HasSubstr("compression method"));
  stream[2] = std::byte{8};
  stream[3] = std::byte{0x20};
  EXPECT_THAT(refusal(stream), HasSubstr("flags"));
}

TEST(LayerDecompressor, HeaderWithoutAnEndIsRefused) {
  Bytes stream = gzip(to_bytes("x"));
  stream.resize(10);
  stream[3] = std::byte{8};  // a name follows
  const Bytes endless = joined({stream, Bytes(3 << 20, std::byte{'n'})});
  test::CollectingSink sink;
  LayerDecompressor decompressor("layer", sink);
  test::PieceStream pieces(endless, 64 << 10);
  EXPECT_THROW(
      {
        for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) decompressor.feed(piece);
      },
      DataError);
}

TEST(LayerDecompressor, WindowBeyondTheLimitIsRefused) {
  // A frame header that asks for 2^31 bytes.
  EXPECT_THAT(refusal(to_bytes(std::string_view("\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00", 9))),
              HasSubstr("memory"));
}

TEST(LayerDecompressor, WhatIsNotCompressedPassesAsItIs) {
  EXPECT_EQ(unpacked({}), "");
  for (const std::string text : {"a", "ab", "abc", "abcd", "abcde", "\x1f", "\x28\xb5\x2f"}) {
    EXPECT_EQ(unpacked(to_bytes(text)), text);
    EXPECT_EQ(unpacked(to_bytes(text), 0, 1, 1), text);
  }
}

TEST(LayerDecompressor, MessagesNameTheLayerAndThePlace) {
  Bytes stream = gzip(to_bytes(sample()));
  stream[10] = std::byte{0xFF};  // block type 3
  EXPECT_THAT(refusal(stream), testing::MatchesRegex("layer: byte [0-9]+ of the compressed stream: .*"));
}

TEST(LayerDecompressor, ManySmallMembersCostWhatTheyHold) {
  Bytes stream;
  const Bytes member = gzip(to_bytes("x"));
  for (int i = 0; i < 20000; ++i) stream.insert(stream.end(), member.begin(), member.end());
  EXPECT_EQ(unpacked(stream), std::string(20000, 'x'));
}

}  // namespace
}  // namespace obd::blockfs
