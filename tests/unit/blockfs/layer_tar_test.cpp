#include "blockfs/layer_tar.h"

#include <gmock/gmock.h>

#include "tests/unit/blockfs/tar_reading.h"

namespace obd::blockfs {
namespace {

using test::Bytes;
using test::TarBuilder;
using testing::HasSubstr;
using Type = TarEntry::Type;

/// Every kind of header, content around the block's edge, holes.
const Bytes& sample() {
  static const Bytes bytes =
      TarBuilder()
          .records('g', {{"gid", "77"}})
          .directory("etc/")
          .file("etc/empty", "")
          .file("etc/block", std::string(512, 'b'))
          .add({.name = "short", .content = std::string(513, 'c'), .pax = {{"path", std::string(300, 'p')}}})
          .long_text('L', std::string(600, 'l'))
          .long_text('K', std::string(700, 'k'))
          .symlink("cut", "cut")
          .hardlink("etc/hard", "etc/block")
          .add({.name = "dev/tty", .type = '3', .mode = 0620, .gid = 5, .major = 5, .minor = 1})
          .add({.name = "sparse",
                .content = "abcdef",
                .pax = {{"GNU.sparse.size", "2000"}, {"GNU.sparse.map", "10,3,1000,3"}}})
          .end()
          .bytes();
  return bytes;
}

TEST(LayerTar, ReadsTheSameHoweverTheStreamIsCut) {
  const auto whole = read_members(sample());
  ASSERT_EQ(whole.size(), 8u);
  for (const size_t piece : {1, 2, 3, 7, 511, 512, 513, 1024, 4096}) {
    const auto cut = read_members(sample(), piece);
    ASSERT_EQ(cut.size(), whole.size()) << piece;
    for (size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(cut[i].entry.path, whole[i].entry.path);
      EXPECT_EQ(cut[i].entry.link_target, whole[i].entry.link_target);
      EXPECT_EQ(cut[i].entry.header_offset, whole[i].entry.header_offset);
      EXPECT_EQ(cut[i].content, whole[i].content);
    }
  }
}

TEST(LayerTar, GivesEveryPropertyOfAMember) {
  const auto members = read_members(sample());
  EXPECT_EQ(members[0].entry.type, Type::kDirectory);
  EXPECT_EQ(members[0].entry.path, "etc/");
  EXPECT_EQ(members[0].entry.gid, 77u);
  EXPECT_EQ(members[3].entry.path, std::string(300, 'p'));
  EXPECT_EQ(members[3].content, std::string(513, 'c'));
  EXPECT_EQ(members[4].entry.path, std::string(600, 'l'));
  EXPECT_EQ(members[4].entry.link_target, std::string(700, 'k'));
  EXPECT_EQ(members[5].entry.type, Type::kHardlink);
  EXPECT_EQ(members[5].entry.link_target, "etc/block");
  EXPECT_EQ(members[6].entry.device_major, 5u);
  EXPECT_EQ(members[6].entry.device_minor, 1u);
  EXPECT_EQ(members[6].entry.mode, 0620u);
}

TEST(LayerTar, CutAtAnyByteItEndsCleanlyOrThrowsTarError) {
  const auto whole = read_members(sample());
  for (size_t end = 0; end <= sample().size(); ++end) {
    const Bytes cut(sample().begin(), sample().begin() + static_cast<ptrdiff_t>(end));
    try {
      const auto members = read_members(cut, 4096);
      EXPECT_EQ(end % 512, 0u) << "a member is cut off";
      ASSERT_LE(members.size(), whole.size());
      for (size_t i = 0; i < members.size(); ++i) EXPECT_EQ(members[i].content, whole[i].content) << end;
    } catch (const TarError& error) {
      EXPECT_THAT(error.what(), HasSubstr("layer: tar member"));
    }
  }
}

TEST(LayerTar, AnyChangedHeaderByteIsNoticed) {
  const Bytes archive = TarBuilder().file("name", "").end().bytes();
  for (size_t at = 0; at < 512; ++at) {
    if (at >= 148 && at < 156) continue;  // the checksum's own form is free
    Bytes damaged = archive;
    damaged[at] ^= std::byte{0x10};
    EXPECT_THAT(refusal(damaged), HasSubstr("checksum")) << at;
  }
}

TEST(LayerTar, EmptyStreamAndMissingEndMarkAreAccepted) {
  EXPECT_TRUE(read_members({}).empty());
  EXPECT_TRUE(read_members(Bytes(512)).empty());
  EXPECT_TRUE(read_members(Bytes(1024)).empty());
  EXPECT_TRUE(read_members(Bytes(10240)).empty());
  EXPECT_EQ(read_members(TarBuilder().file("a", "1").bytes()).size(), 1u);
  EXPECT_EQ(read_members(TarBuilder().file("a", "1").raw(std::string(512, '\0')).bytes()).size(), 1u);
}

TEST(LayerTar, NothingBehindTheEndMarkIsRead) {
  const Bytes archive = TarBuilder().file("a", "1").end().raw("garbage").file("b", "2").bytes();
  EXPECT_EQ(read_members(archive).size(), 1u);
}

TEST(LayerTar, LoneZeroBlockBetweenMembersIsRefused) {
  const Bytes archive = TarBuilder().file("a", "1").raw(std::string(512, '\0')).file("b", "2").end().bytes();
  EXPECT_THAT(refusal(archive), HasSubstr("lone zero block"));
}

TEST(LayerTar, ContentThatNobodyReadsIsSkipped) {
  const Bytes archive = TarBuilder().file("a", std::string(5000, 'a')).file("b", "2").end().bytes();
  test::PieceStream stream(archive, 100);
  LayerTar tar("layer", stream);
  tar.next();
  tar.next_data();  // a part of it
  ASSERT_NE(tar.next(), nullptr);
  EXPECT_EQ(test::to_text(tar.next_data()->bytes), "2");
  EXPECT_FALSE(tar.next_data());
  EXPECT_EQ(tar.next(), nullptr);
  EXPECT_EQ(tar.next(), nullptr) << "the end stays the end";
}

TEST(LayerTar, LinksDirectoriesAndDevicesHaveNoBodyWhateverSizeTheyClaim) {
  for (const char type : {'1', '2', '3', '4', '5', '6'}) {
    const Bytes archive = TarBuilder()
                              .add({.name = "x", .type = type, .link = "y"})
                              .patch(124, "00000001000")
                              .file("next", "n")
                              .end()
                              .bytes();
    const auto members = read_members(archive);
    ASSERT_EQ(members.size(), 2u) << type;
    EXPECT_EQ(members[1].entry.path, "next");
  }
}

TEST(LayerTar, OnlyTypeNulTakesATrailingSlashForADirectory) {
  const auto type_of = [](char type) {
    return read_one(TarBuilder().add({.name = "x/", .type = type}).end().bytes()).entry.type;
  };
  EXPECT_EQ(type_of('\0'), Type::kDirectory);
  EXPECT_EQ(type_of('0'), Type::kFile);
  EXPECT_EQ(type_of('7'), Type::kFile);
}

TEST(LayerTar, UnknownTypesAreRefusedByName) {
  EXPECT_THAT(refusal(TarBuilder().add({.name = "x", .type = 'Z'}).end().bytes()),
              HasSubstr("tar member 'x' at byte 0: unknown member type 'Z'"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "x", .type = '\x07'}).end().bytes()), HasSubstr("0x07"));
}

TEST(LayerTar, NamelessMemberIsRefused) {
  EXPECT_THAT(refusal(TarBuilder().file("", "x").end().bytes()), HasSubstr("no name"));
}

TEST(LayerTar, VolumeLabelsArePassedOver) {
  const Bytes archive = TarBuilder().add({.name = "label", .type = 'V'}).file("a", "1").end().bytes();
  EXPECT_EQ(read_one(archive).entry.path, "a");
}

TEST(LayerTar, AnEmptyLocalRecordTakesTheGlobalOneBackForItsMember) {
  const auto members = read_members(TarBuilder()
                                        .records('g', {{"uid", "1"}, {"gid", "2"}})
                                        .add({.name = "a", .uid = 9, .gid = 9, .pax = {{"uid", ""}}})
                                        .add({.name = "b", .uid = 9, .gid = 9})
                                        .end()
                                        .bytes());
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].entry.uid, 9u);
  EXPECT_EQ(members[0].entry.gid, 2u);
  EXPECT_EQ(members[1].entry.uid, 1u);
}

TEST(LayerTar, LocalRecordsWinOverGlobalOnesAndBothOverTheHeader) {
  const auto members =
      read_members(TarBuilder()
                       .records('g', {{"uid", "1"}, {"gid", "2"}, {"SCHILY.xattr.user.g", "g"}})
                       .add({.name = "a", .uid = 9, .gid = 9, .pax = {{"uid", "5"}}})
                       .add({.name = "b", .uid = 9, .gid = 9})
                       .records('g', {{"gid", ""}})
                       .add({.name = "c", .uid = 9, .gid = 9, .pax = {{"SCHILY.xattr.user.g", "l"}}})
                       .end()
                       .bytes());
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members[0].entry.uid, 5u);
  EXPECT_EQ(members[0].entry.gid, 2u);
  EXPECT_EQ(members[1].entry.uid, 1u);
  EXPECT_EQ(members[2].entry.gid, 9u) << "the global record was taken back";
  using Xattr = std::pair<std::string, std::string>;
  EXPECT_THAT(members[1].entry.xattrs, testing::ElementsAre(Xattr("user.g", "g")));
  EXPECT_THAT(members[2].entry.xattrs, testing::ElementsAre(Xattr("user.g", "l")));
}

TEST(LayerTar, PaxNameWinsOverGnuLongName) {
  const Bytes archive = TarBuilder()
                            .long_text('L', "gnu")
                            .add({.name = "header", .pax = {{"path", "pax"}}})
                            .file("next", "")
                            .end()
                            .bytes();
  const auto members = read_members(archive);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].entry.path, "pax");
  EXPECT_EQ(members[1].entry.path, "next") << "extended headers belong to one member";
}

TEST(LayerTar, PaxSizeSaysHowLongTheBodyIs) {
  const Bytes archive = TarBuilder()
                            .add({.name = "a", .content = std::string(600, 'a'), .pax = {{"size", "600"}}})
                            .patch(124, "00000000000")
                            .file("b", "2")
                            .end()
                            .bytes();
  const auto members = read_members(archive);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].content, std::string(600, 'a'));
  EXPECT_EQ(members[1].content, "2");
}

TEST(LayerTar, SizeBeyondTheStreamIsRefusedWithoutReservingIt) {
  const std::string largest("\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12);
  const Bytes archive = TarBuilder().file("huge", "x").patch(124, largest).bytes();
  test::PieceStream stream(archive);
  LayerTar tar("layer", stream);
  ASSERT_NE(tar.next(), nullptr);
  EXPECT_THROW(tar.next(), TarError);
}

TEST(LayerTar, ExtendedHeadersBeyondTheLimitAreRefused) {
  for (const char type : {'x', 'g', 'L', 'K'}) {
    const Bytes archive = TarBuilder().add({.name = "x", .type = type}).patch(124, "00004000001").bytes();
    EXPECT_THAT(refusal(archive), HasSubstr("at most 1048576")) << type;
  }
  const std::string name(LayerTar::kMaxPathBytes, 'n');
  EXPECT_EQ(read_one(TarBuilder().long_text('L', name).file("x", "").end().bytes()).entry.path, name);
  EXPECT_THAT(refusal(TarBuilder().long_text('L', name + "n").file("x", "").end().bytes()),
              HasSubstr("long name"));
}

TEST(LayerTar, ArchiveThatEndsBehindAnExtendedHeaderIsRefused) {
  EXPECT_THAT(refusal(TarBuilder().records('x', {{"path", "p"}}).end().bytes()),
              HasSubstr("extended header"));
  EXPECT_THAT(refusal(TarBuilder().long_text('L', "p").bytes()), HasSubstr("extended header"));
  EXPECT_TRUE(read_members(TarBuilder().records('g', {{"path", "p"}}).end().bytes()).empty());
}

TEST(LayerTar, MessagesNameTheMemberBeingRead) {
  const Bytes archive = TarBuilder().file("first", "1").file("second", "2").end().bytes();
  test::PieceStream stream(archive);
  LayerTar tar("layer 3 of 4", stream);
  tar.next();
  tar.next();
  EXPECT_EQ(tar.describe_member(), "layer 3 of 4: tar member 'second' at byte 1024");
}

}  // namespace
}  // namespace obd::blockfs
