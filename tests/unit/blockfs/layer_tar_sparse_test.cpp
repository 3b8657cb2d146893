#include <gmock/gmock.h>

#include "tests/unit/blockfs/tar_reading.h"

namespace obd::blockfs {
namespace {

using test::Bytes;
using test::TarBuilder;
using testing::HasSubstr;

using Pieces = std::vector<std::pair<uint64_t, uint64_t>>;  // offset, bytes

constexpr uint64_t kSize = 3000;
const Pieces kPieces = {{0, 5}, {512, 7}, {2990, 10}};
const std::string kStored = "aaaaabbbbbbbcccccccccc";

std::string expected_content() {
  std::string content(kSize, '\0');
  size_t at = 0;
  for (const auto& [offset, bytes] : kPieces) {
    content.replace(offset, bytes, kStored.substr(at, bytes));
    at += bytes;
  }
  return content;
}

void expect_sparse(const Bytes& archive) {
  for (const size_t piece : {size_t{1}, size_t{100}, SIZE_MAX}) {
    const auto members = read_members(archive, piece);
    ASSERT_EQ(members.size(), 2u);
    EXPECT_EQ(members[0].entry.path, "dir/sparse");
    EXPECT_EQ(members[0].entry.size, kSize);
    EXPECT_EQ(members[0].entry.segments.size(), kPieces.size());
    EXPECT_EQ(members[0].content, expected_content());
    EXPECT_EQ(members[1].content, "2") << "the member behind it";
  }
}

std::string octal(uint64_t value) {
  return fmt::format("{:011o}", value) + '\0';
}

std::string old_map(const Pieces& pieces) {
  std::string text;
  for (const auto& [offset, bytes] : pieces) text += octal(offset) + octal(bytes);
  return text;
}

/// A member of type 'S' whose header holds up to four pieces.
TarBuilder old_sparse(const Pieces& in_header, bool continues, uint64_t real_size, const std::string& body) {
  TarBuilder builder;
  builder.add({.name = "dir/sparse", .type = 'S'}).patch(257, std::string_view("ustar  \0", 8));
  builder.patch(386, old_map(in_header)).patch(482, continues ? "\1" : std::string_view("\0", 1));
  builder.patch(483, octal(real_size)).patch(124, octal(body.size()));
  return builder;
}

std::string padded(std::string text) {
  text.resize((text.size() + 511) / 512 * 512);
  return text;
}

std::string map_1_0(const Pieces& pieces) {
  std::string text = fmt::format("{}\n", pieces.size());
  for (const auto& [offset, bytes] : pieces) text += fmt::format("{}\n{}\n", offset, bytes);
  return padded(text);
}

Bytes sparse_1_0(const std::string& body, uint64_t real_size = kSize) {
  return TarBuilder()
      .add({.name = "GNUSparseFile.0/sparse",
            .content = body,
            .pax = {{"GNU.sparse.major", "1"},
                    {"GNU.sparse.minor", "0"},
                    {"GNU.sparse.name", "dir/sparse"},
                    {"GNU.sparse.realsize", fmt::format("{}", real_size)}}})
      .file("next", "2")
      .end()
      .bytes();
}

TEST(SparseTar, OldGnuFormKeepsItsMapInTheHeader) {
  expect_sparse(
      old_sparse(kPieces, false, kSize, kStored).raw(padded(kStored)).file("next", "2").end().bytes());
}

TEST(SparseTar, OldGnuMapContinuesInBlocksOfItsOwn) {
  const Pieces first(kPieces.begin(), kPieces.begin() + 1);
  const Pieces second(kPieces.begin() + 1, kPieces.begin() + 2);
  const Pieces third(kPieces.begin() + 2, kPieces.end());
  std::string middle = padded(old_map(second));
  middle[504] = '\1';
  expect_sparse(old_sparse(first, true, kSize, kStored)
                    .raw(middle)
                    .raw(padded(old_map(third)))
                    .raw(padded(kStored))
                    .file("next", "2")
                    .end()
                    .bytes());
}

TEST(SparseTar, Pax00ListsOffsetsAndSizesInTurn) {
  // The keywords repeat, which a map cannot hold.
  std::string records;
  const auto record = [&](const std::string& text) {
    records += fmt::format("{} {}\n", text.size() + 4, text);
  };
  record("GNU.sparse.size=3000");
  record("GNU.sparse.numblocks=3");
  for (const auto& [offset, bytes] : kPieces) {
    record(fmt::format("GNU.sparse.offset={}", offset));
    record(fmt::format("GNU.sparse.numbytes={}", bytes));
  }
  expect_sparse(TarBuilder()
                    .add({.name = "pax", .type = 'x', .content = records})
                    .file("dir/sparse", kStored)
                    .file("next", "2")
                    .end()
                    .bytes());
}

TEST(SparseTar, Pax01HasTheMapInOneRecord) {
  expect_sparse(TarBuilder()
                    .add({.name = "GNUSparseFile.0/sparse",
                          .content = kStored,
                          .pax = {{"GNU.sparse.map", "0,5,512,7,2990,10"},
                                  {"GNU.sparse.name", "dir/sparse"},
                                  {"GNU.sparse.numblocks", "3"},
                                  {"GNU.sparse.size", "3000"}}})
                    .file("next", "2")
                    .end()
                    .bytes());
}

TEST(SparseTar, Pax10HasTheMapInFrontOfTheContent) {
  expect_sparse(sparse_1_0(map_1_0(kPieces) + kStored));
}

TEST(SparseTar, AHoleAtTheEndIsMarkedByAnEmptyPiece) {
  const Bytes archive = sparse_1_0(map_1_0({{0, 5}, {kSize, 0}}) + "aaaaa");
  const auto members = read_members(archive);
  EXPECT_EQ(members[0].entry.segments.size(), 1u);
  EXPECT_EQ(members[0].content, "aaaaa" + std::string(kSize - 5, '\0'));
}

TEST(SparseTar, FileOfHolesAloneHasNoContent) {
  for (const Bytes& archive :
       {sparse_1_0(map_1_0({}), 1 << 20), sparse_1_0(map_1_0({{1 << 20, 0}}), 1 << 20)}) {
    const auto members = read_members(archive);
    EXPECT_EQ(members[0].entry.size, 1u << 20);
    EXPECT_TRUE(members[0].entry.segments.empty());
  }
}

TEST(SparseTar, MapOfSeveralBlocksIsReadInAnyPieces) {
  Pieces pieces;
  for (uint64_t i = 0; i < 500; ++i) pieces.emplace_back(i * 5000, 1);
  const Bytes archive = sparse_1_0(map_1_0(pieces) + std::string(500, 'x'), 500 * 5000);
  for (const size_t piece : {size_t{1}, size_t{513}, SIZE_MAX}) {
    const auto members = read_members(archive, piece);
    EXPECT_EQ(members[0].entry.segments.size(), 500u);
    EXPECT_EQ(members[0].content[499 * 5000], 'x');
  }
}

TEST(SparseTar, PiecesThatOverlapOrLieBeyondTheEndAreRefused) {
  EXPECT_THAT(refusal(sparse_1_0(map_1_0({{0, 5}, {4, 5}}) + "0123456789")), HasSubstr("overlaps"));
  EXPECT_THAT(refusal(sparse_1_0(map_1_0({{10, 5}, {0, 5}}) + "0123456789")), HasSubstr("overlaps"));
  EXPECT_THAT(refusal(sparse_1_0(map_1_0({{kSize - 4, 5}}) + "01234")), HasSubstr("beyond the end"));
  EXPECT_THAT(refusal(sparse_1_0(map_1_0({{kSize + 1, 0}}))), HasSubstr("beyond the end"));
  EXPECT_THAT(refusal(sparse_1_0(map_1_0({{UINT64_MAX, UINT64_MAX}}))), HasSubstr("beyond the end"));
  EXPECT_THAT(refusal(old_sparse({{0, 5}, {4, 5}}, false, kSize, "x").raw(padded("x")).bytes()),
              HasSubstr("overlaps"));
}

TEST(SparseTar, MapThatDoesNotFitTheStoredBytesIsRefused) {
  EXPECT_THAT(refusal(sparse_1_0(map_1_0({{0, 5}}) + "0123")), HasSubstr("covers 5 bytes, but it stores 4"));
  EXPECT_THAT(refusal(old_sparse({{0, 5}}, false, kSize, "0123").raw(padded("0123")).bytes()),
              HasSubstr("covers 5 bytes, but it stores 4"));
}

TEST(SparseTar, MalformedMapsAreRefused) {
  for (const std::string map : {"", "x\n", "-1\n", "1\n", "1\n0\n", "2\n0\n1\n", "99999999999999999999\n",
                                "1\n0x1\n1\n", " 1\n0\n1\n"}) {
    EXPECT_FALSE(refusal(sparse_1_0(padded(map))).empty()) << map;
  }
  EXPECT_THAT(refusal(sparse_1_0(padded("300000\n"))), HasSubstr("too many pieces"));
}

TEST(SparseTar, UnknownVersionAndMissingSizeAreRefused) {
  EXPECT_THAT(refusal(TarBuilder()
                          .add({.name = "x", .pax = {{"GNU.sparse.major", "2"}, {"GNU.sparse.minor", "0"}}})
                          .end()
                          .bytes()),
              HasSubstr("unknown version"));
  EXPECT_THAT(refusal(TarBuilder()
                          .add({.name = "x", .pax = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}}})
                          .end()
                          .bytes()),
              HasSubstr("realsize"));
}

TEST(SparseTar, CutAtAnyByteItThrowsTarError) {
  const Bytes archive = sparse_1_0(map_1_0(kPieces) + kStored);
  for (size_t end = 1; end < archive.size() - 1024 - 1024; ++end) {
    EXPECT_THROW(read_members(Bytes(archive.begin(), archive.begin() + static_cast<ptrdiff_t>(end))),
                 TarError)
        << end;
  }
}

}  // namespace
}  // namespace obd::blockfs
