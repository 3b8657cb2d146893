#include "tools/check_layer.h"

#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <sys/stat.h>
#include <zstd.h>

#include "common/error.h"
#include "tests/support/tar_builder.h"
#include "tools/check_pax.h"

namespace obd::tools {
namespace {

using test::Bytes;
using test::TarBuilder;

std::vector<LayerMember> read(const Bytes& blob, size_t piece_bytes = 1000) {
  size_t at = 0;
  const LayerInput input = [&]() -> std::span<const std::byte> {
    const auto piece = std::span(blob).subspan(at, std::min(piece_bytes, blob.size() - at));
    at += piece.size();
    return piece;
  };
  auto members = read_layer("layer", input, {});
  EXPECT_EQ(at, blob.size()) << "the blob is read to its end";
  return members;
}

Bytes gzip(std::span<const std::byte> content) {
  isal_zstream stream;
  isal_deflate_stateless_init(&stream);
  Bytes out(content.size() + 1000);
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(content.data()));
  stream.avail_in = static_cast<uint32_t>(content.size());
  stream.next_out = reinterpret_cast<uint8_t*>(out.data());
  stream.avail_out = static_cast<uint32_t>(out.size());
  EXPECT_EQ(isal_deflate_stateless(&stream), COMP_OK);
  out.resize(stream.total_out);
  return out;
}

Bytes zstd(const Bytes& content) {
  Bytes out(ZSTD_compressBound(content.size()));
  out.resize(ZSTD_compress(out.data(), out.size(), content.data(), content.size(), 3));
  return out;
}

const Bytes& sample() {
  static const Bytes bytes =
      TarBuilder()
          .directory("etc/")
          .file("etc/passwd", std::string(9000, 'p'))
          .symlink("etc/link", "passwd")
          .hardlink("etc/hard", "etc/passwd")
          .add({.name = "dev/tty", .type = '3', .mode = 0620, .gid = 5, .major = 5, .minor = 1})
          .end()
          .bytes();
  return bytes;
}

void expect_sample(const std::vector<LayerMember>& members) {
  ASSERT_EQ(members.size(), 5U);
  EXPECT_EQ(members[0].inode->mode, S_IFDIR | 0755U);
  EXPECT_EQ(members[1].path, "etc/passwd");
  EXPECT_EQ(members[1].inode->size, 9000U);
  EXPECT_EQ(members[2].inode->link_target(), "passwd");
  EXPECT_EQ(members[3].hardlink, "etc/passwd");
  EXPECT_EQ(members[3].inode, nullptr);
  EXPECT_EQ(members[4].inode->mode, S_IFCHR | 0620U);
  EXPECT_EQ(members[4].inode->device_major, 5U);
  EXPECT_EQ(members[4].inode->device_minor, 1U);
}

TEST(ReadLayer, ReadsEveryCompression) {
  expect_sample(read(sample()));
  expect_sample(read(gzip(sample())));
  expect_sample(read(zstd(sample())));
  expect_sample(read(sample(), 1));
}

TEST(ReadLayer, SymlinksHaveTheOneModeThatLinuxKnows) {
  const auto members = read(TarBuilder()
                                .add({.name = "python", .type = '2', .link = "x", .mode = 0644})
                                .add({.name = "bits", .type = '2', .link = "x", .mode = 07000})
                                .end()
                                .bytes());
  ASSERT_EQ(members.size(), 2U);
  for (const auto& member : members) EXPECT_EQ(member.inode->mode, S_IFLNK | 0777U) << member.path;
}

TEST(ReadLayer, ASlashMakesADirectoryOfAMemberWithoutATypeAlone) {
  const std::string text = std::string(700, 'a');
  Bytes archive = TarBuilder()
                      .directory("d/")
                      .add({.name = "file/", .content = text, .uid = 7})
                      .records('g', {{"uid", "9"}})
                      .add({.name = "x", .content = text + "b", .pax = {{"path", "long/name/"}}})
                      .add({.name = "empty/"})
                      .add({.name = "old/", .type = '\0', .content = "no directory has content"})
                      .add({.name = "last/", .content = text})
                      .bytes();
  const auto plain = read(TarBuilder().file("file", text).file("longer", text + "b").end().bytes());
  for (const size_t piece_bytes : {size_t{1}, size_t{512}, size_t{1000}, archive.size()}) {
    const auto members = read(archive, piece_bytes);
    ASSERT_EQ(members.size(), 6U);
    EXPECT_TRUE(members[0].inode->is_directory());
    EXPECT_EQ(members[1].path, "file/");
    EXPECT_EQ(members[1].inode->mode, S_IFREG | 0644U);
    EXPECT_EQ(members[1].inode->uid, 7U);
    EXPECT_EQ(members[1].inode->size, 700U);
    EXPECT_EQ(members[1].inode->content, plain[0].inode->content);
    EXPECT_EQ(members[2].path, "long/name/");
    EXPECT_EQ(members[2].inode->size, 701U);
    EXPECT_EQ(members[2].inode->content, plain[1].inode->content);
    EXPECT_EQ(members[3].inode->mode, S_IFREG | 0644U);
    EXPECT_EQ(members[3].inode->size, 0U);
    EXPECT_TRUE(members[4].inode->is_directory());
    EXPECT_EQ(members[4].inode->uid, 9U) << "a global header reaches further";
    EXPECT_EQ(members[5].inode->size, 700U);
  }
  archive.resize(archive.size() - 512);
  EXPECT_THROW(read(archive), DataError) << "the last file's content is cut";
}

TEST(ReadLayer, ReadsGzipOfSeveralMembersAndBytesBehindTheEnd) {
  Bytes blob = gzip(std::span(sample()).first(777));
  const Bytes rest = gzip(std::span(sample()).subspan(777));
  blob.insert(blob.end(), rest.begin(), rest.end());
  expect_sample(read(blob));
  Bytes longer = sample();
  longer.resize(longer.size() + 100'000);
  expect_sample(read(longer));
  Bytes open_ended(sample().begin(), sample().end() - 1024);
  expect_sample(read(open_ended));
}

TEST(ReadLayer, AnEmptyBlobIsAnEmptyLayer) {
  EXPECT_TRUE(read({}).empty());
  EXPECT_TRUE(read(Bytes(1024)).empty());
  EXPECT_TRUE(read(gzip({})).empty());
}

TEST(ReadLayer, WhatIsDamagedIsADataError) {
  const Bytes cut(sample().begin(), sample().begin() + 3000);
  EXPECT_THROW(read(cut), DataError);
  Bytes packed = gzip(sample());
  packed.resize(packed.size() / 2);
  EXPECT_THROW(read(packed), DataError);
  EXPECT_THROW(read(Bytes(4096, std::byte{'x'})), DataError);
}

TEST(ReadLayer, NamesAreRawBytesInEveryFormat) {
  const std::string invalid = "bad-\xFF\xFE-name";
  const std::string decomposed = "n\xCC\x83";  // another sequence than its composed form
  for (const std::string& name : {invalid, decomposed, std::string("\xC3\xB1")}) {
    const auto members =
        read(TarBuilder()
                 .file(name, "in ustar")
                 .symlink("l", name)
                 .add({.name = "short", .content = "in pax", .pax = {{"path", "p/" + name}}})
                 .add({.name = "s", .type = '2', .link = "x", .pax = {{"linkpath", name}}})
                 .add({.name = "h", .type = '1', .link = "x", .pax = {{"linkpath", "p/" + name}}})
                 .end()
                 .bytes());
    ASSERT_EQ(members.size(), 5U);
    EXPECT_EQ(members[0].path, name);
    EXPECT_EQ(members[1].inode->link_target(), name);
    EXPECT_EQ(members[2].path, "p/" + name);
    EXPECT_EQ(members[3].inode->link_target(), name);
    EXPECT_EQ(members[4].hardlink, "p/" + name);
  }
}

TEST(ReadLayer, TakesXattrsOfBothFormsAsBytesAndLeavesOutWhatCannotBeStored) {
  const auto members = read(TarBuilder()
                                .add({.name = "f",
                                      .pax = {{"SCHILY.xattr.user.a", std::string("\0\n\xFF=", 4)},
                                              {"SCHILY.xattr.user.empty", ""},
                                              {"SCHILY.xattr.com.apple.quarantine", "x"},
                                              {"LIBARCHIVE.xattr.user.b%3Dc", "AAECAw"}}})
                                .end()
                                .bytes());
  const Inode::Xattrs expected = {
      {"user.a", std::string("\0\n\xFF=", 4)}, {"user.b=c", std::string("\0\1\2\3", 4)}, {"user.empty", ""}};
  EXPECT_EQ(members[0].inode->xattrs(), expected);
}

TEST(ReadLayer, OnlyFilesAndDirectoriesHaveUserAttributes) {
  TarBuilder tar;
  for (const char type : {'0', '5', '2', '3', '6'}) {
    tar.add({.name = std::string(1, type),
             .type = type,
             .link = "y",
             .pax = {{"SCHILY.xattr.user.x", "1"}, {"SCHILY.xattr.trusted.x", "2"}}});
  }
  const auto members = read(tar.end().bytes());
  ASSERT_EQ(members.size(), 5U);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(members[i].inode->xattrs().contains("user.x"), i < 2) << members[i].path;
    EXPECT_TRUE(members[i].inode->xattrs().contains("trusted.x")) << members[i].path;
  }
}

TEST(ReadLayer, GlobalHeadersCountUntilTheyAreReplaced) {
  const auto members =
      read(TarBuilder()
               .records('g', {{"uid", "77"}, {"mtime", "5.25"}, {"SCHILY.xattr.user.g", "all"}})
               .file("a", "1")
               .add({.name = "b", .content = "2", .pax = {{"uid", "4294967295"}}})
               .records('g', {{"uid", ""}, {"comment", "x"}})
               .add({.name = "c", .content = "3", .uid = 9})
               .end()
               .bytes());
  ASSERT_EQ(members.size(), 3U);
  EXPECT_EQ(members[0].inode->uid, 77U);
  EXPECT_EQ(members[0].inode->mtime_seconds, 5);
  EXPECT_EQ(members[0].inode->mtime_nanoseconds, 250'000'000U);
  EXPECT_EQ(members[1].inode->uid, 4294967295U);
  EXPECT_EQ(members[2].inode->uid, 9U);
  for (const auto& member : members) EXPECT_EQ(member.inode->xattrs().at("user.g"), "all");
}

TEST(ReadLayer, ClampsTimesToWhatExt4Holds) {
  const auto mtime = [](const std::string& text) {
    const auto members = read(TarBuilder().add({.name = "f", .pax = {{"mtime", text}}}).end().bytes());
    return std::pair(members[0].inode->mtime_seconds, members[0].inode->mtime_nanoseconds);
  };
  EXPECT_EQ(mtime("-1.5"), std::pair(int64_t{-2}, 500'000'000U));
  EXPECT_EQ(mtime("-99999999999"), std::pair(int64_t{-2147483648}, 0U));
  EXPECT_EQ(mtime("99999999999.5"), std::pair(int64_t{15032385535}, 0U));
}

TEST(ReadLayer, HashesContentThatIsStoredSparselyAsAWhole) {
  // GNU sparse 1.0: the map stands in front of the data.
  std::string map = "2\n8192\n3\n20000\n0\n";
  map.resize(512);
  const auto members = read(TarBuilder()
                                .add({.name = "GNUSparseFile.0/f",
                                      .content = map + "abc",
                                      .pax = {{"GNU.sparse.major", "1"},
                                              {"GNU.sparse.minor", "0"},
                                              {"GNU.sparse.name", "sparse"},
                                              {"GNU.sparse.realsize", "20000"}}})
                                .file("dense", std::string(8192, '\0') + "abc" + std::string(11805, '\0'))
                                .end()
                                .bytes());
  ASSERT_EQ(members.size(), 2U);
  EXPECT_EQ(members[0].path, "sparse");
  EXPECT_EQ(members[0].inode->size, members[1].inode->size);
  EXPECT_EQ(members[0].inode->content, members[1].inode->content);
}

TEST(ParsePaxTime, RoundsTowardsThePast) {
  EXPECT_EQ(parse_pax_time("12"), std::pair(int64_t{12}, 0U));
  EXPECT_EQ(parse_pax_time("1.1234567899"), std::pair(int64_t{1}, 123'456'789U));
  EXPECT_EQ(parse_pax_time("-0.25"), std::pair(int64_t{-1}, 750'000'000U));
  EXPECT_EQ(parse_pax_time("-1.0000000001"), std::pair(int64_t{-2}, 999'999'999U));
  EXPECT_EQ(parse_pax_time("-3.000"), std::pair(int64_t{-3}, 0U));
  for (const char* bad : {"", "x", "1.x", "1 ", "1.5.5"}) EXPECT_THROW(parse_pax_time(bad), DataError) << bad;
}

}  // namespace
}  // namespace obd::tools
