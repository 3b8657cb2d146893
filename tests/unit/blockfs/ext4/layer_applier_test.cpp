#include "blockfs/ext4/layer_applier.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "blockfs/ext4/capacity.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/blockfs/ext4/image_disk.h"

namespace obd::blockfs {
namespace {

using test::Bytes;
using test::TarBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

template <class Expected>
std::string refusal(ImageDisk& image, const Bytes& tar) {
  try {
    image.apply(tar);
  } catch (const Expected& error) {
    return error.what();
  }
  ADD_FAILURE() << "it was accepted";
  return {};
}

std::string refusal(const Bytes& tar) {
  ImageDisk image;
  return refusal<DataError>(image, tar);
}

Bytes layer(const TarBuilder::Member& member) {
  return TarBuilder().add(member).end().bytes();
}

Bytes lower_tree() {
  return TarBuilder()
      .directory("dir", 0700)
      .file("dir/a", "a")
      .file("dir/b", "b")
      .directory("dir/sub", 0711)
      .file("dir/sub/c", "c")
      .file("top", "t")
      .end()
      .bytes();
}

TEST(LayerApplier, WhiteoutsActOnTheLayersBelowWhereverTheyStand) {
  std::vector<TarBuilder::Member> members = {{.name = "dir/.wh.a"},
                                             {.name = "dir/a", .content = "new"},
                                             {.name = "dir/sub/.wh..wh..opq"},
                                             {.name = "dir/sub/d", .content = "d"},
                                             {.name = ".wh.top"}};
  std::sort(members.begin(), members.end(), [](const auto& x, const auto& y) { return x.name < y.name; });
  do {
    ImageDisk image;
    image.apply(lower_tree());
    TarBuilder tar;
    for (const auto& member : members) tar.add(member);
    image.apply(tar.end().bytes());
    EXPECT_THAT(image.listing(),
                ElementsAre(Pair("dir", "d700"), Pair("dir/a", "f644"), Pair("dir/b", "f644"),
                            Pair("dir/sub", "d711"), Pair("dir/sub/d", "f644")));
  } while (std::next_permutation(members.begin(), members.end(),
                                 [](const auto& x, const auto& y) { return x.name < y.name; }));
}

TEST(LayerApplier, WhitedOutDirectoryWithNewContentIsAnImpliedOneUnlessListed) {
  for (const bool listed : {false, true}) {
    for (const bool whiteout_first : {false, true}) {
      ImageDisk image;
      image.apply(lower_tree());
      TarBuilder tar;
      if (whiteout_first) tar.file(".wh.dir", "");
      if (listed) tar.directory("dir", 0750);
      tar.file("dir/new", "n");
      if (!whiteout_first) tar.file(".wh.dir", "");
      image.apply(tar.end().bytes());
      EXPECT_THAT(image.listing(), ElementsAre(Pair("dir", listed ? "d750" : "d755"), Pair("dir/new", "f644"),
                                               Pair("top", "f644")))
          << listed << whiteout_first;
    }
  }
}

TEST(LayerApplier, WhiteoutOfNothingIsNoError) {
  ImageDisk image;
  image.apply(TarBuilder()
                  .file(".wh.none", "")
                  .file("no/such/.wh.dir", "")
                  .file("no/.wh..wh..opq", "")
                  .end()
                  .bytes());
  EXPECT_TRUE(image.listing().empty());
}

TEST(LayerApplier, NamesThatAufsReservedAreLeftOut) {
  ImageDisk image;
  image.apply(
      TarBuilder().directory(".wh..wh.plnk").file(".wh..wh.plnk/x", "x").file("a", "a").end().bytes());
  EXPECT_THAT(image.listing(), ElementsAre(Pair("a", "f644")));
}

TEST(LayerApplier, TypesChangeBetweenLayersBothWays) {
  ImageDisk image;
  image.apply(lower_tree());
  image.apply(TarBuilder().file("dir", "a file now").directory("top").file("top/x", "x").end().bytes());
  EXPECT_THAT(image.listing(), ElementsAre(Pair("dir", "f644"), Pair("top", "d755"), Pair("top/x", "f644")));
  image.apply(TarBuilder().symlink("dir", "top").add({.name = "top", .type = '6'}).end().bytes());
  EXPECT_THAT(image.listing(), ElementsAre(Pair("dir", "l777 -> top"), Pair("top", "p644")));
  EXPECT_EQ(image.complaints(), "");
}

TEST(LayerApplier, HardlinksShareAnInodeAcrossLayersAndOutliveTheirTarget) {
  ImageDisk image;
  image.apply(lower_tree());
  image.apply(TarBuilder().hardlink("link", "dir/a").end().bytes());
  EXPECT_EQ(image.inode("link"), image.inode("dir/a"));
  image.apply(TarBuilder().file(".wh.dir", "").end().bytes());
  EXPECT_NE(image.inode("link"), 0u);
  image.apply(TarBuilder().hardlink("link2", "/./link").file("link", "replaced").end().bytes());
  EXPECT_NE(image.inode("link2"), image.inode("link"));
  EXPECT_EQ(image.complaints(), "");
}

TEST(LayerApplier, HardlinkMayReplaceTheDirectoryThatHoldsItsTarget) {
  ImageDisk image;
  image.apply(lower_tree());
  image.apply(TarBuilder().hardlink("dir", "dir/sub/c").end().bytes());
  EXPECT_THAT(image.listing(), ElementsAre(Pair("dir", "f644"), Pair("top", "f644")));
  EXPECT_EQ(image.complaints(), "");
}

TEST(LayerApplier, ParentsThatAreSymlinksAreFollowedWithinTheRoot) {
  ImageDisk image;
  image.apply(TarBuilder()
                  .directory("real")
                  .symlink("abs", "/real")
                  .symlink("up", "../../../real")
                  .symlink("chain", "abs")
                  .file("abs/1", "")
                  .file("up/2", "")
                  .file("chain/3", "")
                  .end()
                  .bytes());
  for (const char* path : {"real/1", "real/2", "real/3"}) EXPECT_NE(image.inode(path), 0u) << path;
}

TEST(LayerApplier, SymlinksThatGoRoundAreRefused) {
  EXPECT_THAT(refusal(TarBuilder().symlink("a", "b").symlink("b", "a").file("a/x", "").end().bytes()),
              HasSubstr("symlinks"));
}

TEST(LayerApplier, MalformedPathsAreRefusedWithMemberAndOffset) {
  EXPECT_THAT(refusal(layer({.name = "../x"})),
              HasSubstr("layer: tar member '../x' at byte 0: its path leads out"));
  EXPECT_THAT(refusal(layer({.name = "a/../../x"})), HasSubstr("leads out"));
  EXPECT_THAT(refusal(layer({.name = "x", .pax = {{"path", std::string(256, 'n')}}})),
              HasSubstr("256 bytes"));
  EXPECT_THAT(refusal(layer({.name = "x", .pax = {{"path", std::string(5000, 'n').replace(1, 0, "/")}}})),
              HasSubstr("bytes"));
  EXPECT_THAT(refusal(layer({.name = ".wh.d/x"})), HasSubstr("below a whiteout"));
  EXPECT_THAT(refusal(layer({.name = ".wh."})), HasSubstr("no name"));
  EXPECT_THAT(refusal(layer({.name = ".wh..."})), HasSubstr("no name"));
  EXPECT_THAT(refusal(layer({.name = "./"})), HasSubstr("must be a directory"));
  EXPECT_THAT(refusal(TarBuilder().file("f", "").file("f/x", "").end().bytes()),
              HasSubstr("neither a directory nor a symlink"));
}

TEST(LayerApplier, MalformedLinksAreRefused) {
  EXPECT_THAT(refusal(TarBuilder().hardlink("x", "missing").end().bytes()),
              HasSubstr("there is no such file"));
  EXPECT_THAT(refusal(TarBuilder().directory("d").hardlink("x", "d").end().bytes()),
              HasSubstr("it is a directory"));
  EXPECT_THAT(refusal(TarBuilder().file("x", "").hardlink("x", "./x").end().bytes()),
              HasSubstr("it is itself"));
  EXPECT_THAT(refusal(TarBuilder().hardlink("x", "/").end().bytes()), HasSubstr("root"));
  EXPECT_THAT(refusal(TarBuilder().symlink("x", "").end().bytes()), HasSubstr("without a target"));
  EXPECT_THAT(refusal(layer({.name = "x", .type = '2', .pax = {{"linkpath", std::string(4096, 't')}}})),
              HasSubstr("4096 bytes"));
}

TEST(LayerApplier, DeviceNumbersBeyondLinuxAreRefused) {
  EXPECT_THAT(refusal(layer({.name = "d", .type = '3', .major = 4096})), HasSubstr("out of range"));
  EXPECT_THAT(refusal(layer({.name = "d", .type = '4', .minor = 1 << 20})), HasSubstr("out of range"));
  ImageDisk image;
  image.apply(layer({.name = "d", .type = '4', .major = 4095, .minor = (1 << 20) - 1}));
  EXPECT_THAT(image.listing(), ElementsAre(Pair("d", "b644")));
}

TEST(LayerApplier, AttributesOfOtherSystemsAreLeftOutAndCounted) {
  ImageDisk image;
  const LayerCapture capture = image.apply(layer(
      {.name = "x", .pax = {{"SCHILY.xattr.com.apple.quarantine", "1"}, {"SCHILY.xattr.user.ok", "2"}}}));
  EXPECT_EQ(capture.applied.skipped_xattrs, 1u);
}

TEST(LayerApplier, UserAttributesOfWhatIsNeitherFileNorDirectoryAreLeftOutAndCounted) {
  const std::map<std::string, std::string> attributes = {{"SCHILY.xattr.user.x", "1"},
                                                         {"SCHILY.xattr.trusted.x", "2"}};
  for (const auto& [type, skipped] :
       std::map<char, uint64_t>{{'0', 0}, {'5', 0}, {'2', 1}, {'3', 1}, {'6', 1}}) {
    ImageDisk image;
    const LayerCapture capture =
        image.apply(layer({.name = "x", .type = type, .link = "y", .pax = attributes}));
    EXPECT_EQ(capture.applied.skipped_xattrs, skipped) << type;
    EXPECT_EQ(image.complaints(), "");
  }
}

TEST(LayerApplier, MalformedAccessControlListsAreRefused) {
  for (const std::string& value :
       {std::string("short"), std::string("\1\0\0\0", 4), std::string("\2\0\0\0\x40\0\7\0\0\0\0\0", 12)}) {
    EXPECT_THAT(refusal(layer({.name = "x", .pax = {{"SCHILY.xattr.system.posix_acl_access", value}}})),
                HasSubstr("no valid access control list"));
  }
}

TEST(LayerApplier, MalformedCapabilitiesAreRefused) {
  // vfs_cap_data: u32 of revision and flags, then 4 bytes for each half set; v3 ends with a root user's ID.
  const auto member = [](char revision, size_t bytes) {
    std::string value(bytes, '\1');
    if (bytes >= 4) value.replace(0, 4, std::string("\1\0\0", 3) + revision);
    return layer({.name = "x", .pax = {{"SCHILY.xattr.security.capability", value}}});
  };
  for (const auto& [revision, bytes] : std::map<char, size_t>{{'\1', 12}, {'\2', 20}, {'\3', 24}}) {
    ImageDisk image;
    EXPECT_EQ(image.apply(member(revision, bytes)).applied.skipped_xattrs, 0u) << bytes;
    EXPECT_EQ(image.complaints(), "");
    for (const size_t wrong : {size_t{0}, size_t{3}, size_t{4}, bytes - 1, bytes + 1, bytes + 4}) {
      EXPECT_THAT(refusal(member(revision, wrong)), HasSubstr("no valid set of capabilities")) << wrong;
    }
  }
  for (const char revision : {'\0', '\4'}) {
    EXPECT_THAT(refusal(member(revision, 24)), HasSubstr("'security.capability'"));
  }
}

TEST(LayerApplier, WhatALayerDoesNotNameKeepsItsMetadata) {
  ImageDisk image;
  image.apply(TarBuilder()
                  .add({.name = "dir", .type = '5', .mode = 0700, .mtime = 1234})
                  .file("dir/a", "a")
                  .end()
                  .bytes());
  image.apply(TarBuilder().file("dir/b", "b").end().bytes());
  EXPECT_EQ(image.filesystem().attributes(image.inode("dir")).mtime_seconds, 1234);
  EXPECT_EQ(image.filesystem().attributes(image.inode("dir")).permissions, 0700u);
}

TEST(LayerApplier, LayerThatChangesNothingHasNoMetadataOfFiles) {
  ImageDisk image;
  image.apply(lower_tree());
  EXPECT_EQ(image.apply(Bytes(1024)).applied.metadata_blocks, 0u);
  EXPECT_EQ(image.apply(TarBuilder().directory("dir", 0700).end().bytes()).applied.metadata_blocks, 0u)
      << "the same again";
}

TEST(LayerApplier, DirectoriesAroundEveryBoundaryPassTheChecker) {
  ImageDisk image;
  TarBuilder tar;
  for (const int count : {1, 202, 203, 204, 205, 407, 408, 409, 3000}) {
    for (int i = 0; i < count; ++i) tar.hardlink(fmt::format("{}/{:012}", count, i), "file");
    if (count == 1) tar = TarBuilder().file("file", "x").hardlink("1/one", "file");
  }
  image.apply(tar.end().bytes());
  EXPECT_EQ(image.complaints(), "");
}

/// A member with a body of zeroes that takes no memory.
class HugeFile final : public ChunkStream {
 public:
  HugeFile(const Bytes& header, uint64_t body_bytes, const Bytes& rest)
      : header_(header), remaining_(body_bytes), rest_(rest) {}
  std::span<const std::byte> next() override {
    if (!header_.empty()) return std::exchange(header_, {});
    if (remaining_ == 0) return std::exchange(rest_, {});
    const auto piece = std::span(zeroes_).first(std::min<uint64_t>(remaining_, zeroes_.size()));
    remaining_ -= piece.size();
    return piece;
  }

 private:
  std::span<const std::byte> header_;
  uint64_t remaining_;
  std::span<const std::byte> rest_;
  const Bytes zeroes_ = Bytes(1 << 20);
};

TEST(LayerApplier, FullDiskTellsWhatTheWholeLayerNeeds) {
  constexpr uint64_t kBody = uint64_t{1} << 31;
  const Bytes rest = TarBuilder().file("small", "x").directory("d").end().bytes();
  const Bytes header = TarBuilder().file("huge", "").patch(124, fmt::format("{:o}", kBody)).bytes();
  HugeFile stream(header, kBody, rest);
  ImageDisk image;
  try {
    image.apply(stream);
    ADD_FAILURE() << "it fitted";
  } catch (const LayerDoesNotFit& full) {
    EXPECT_THAT(full.what(), HasSubstr("layer: tar member 'huge' at byte 0: the disk of 1 GiB is full"));
    EXPECT_GE(full.needs().blocks, kBody / kBlockBytes);
    EXPECT_LT(full.needs().blocks, kBody / kBlockBytes + 1000);
    EXPECT_GE(full.needs().inodes, 3u + 10u) << "the rest of the layer and what was there";
    EXPECT_EQ(vsize_advice(1, full.needs()), "--vsize 3 would do");
  }
}

TEST(LayerApplier, FileBeyondExt4sLimitIsRefusedAtOnce) {
  ImageDisk image;
  const auto sparse = [](uint64_t size) {
    return layer(
        {.name = "x", .pax = {{"GNU.sparse.size", fmt::format("{}", size)}, {"GNU.sparse.map", ""}}});
  };
  constexpr uint64_t kLargest = (uint64_t{1} << 44) - kBlockBytes;
  EXPECT_NO_THROW(image.apply(sparse(kLargest)));
  EXPECT_THAT(refusal<CapacityError>(image, sparse(kLargest + 1)), HasSubstr("ext4 holds at most"));
}

TEST(LayerApplier, MetadataBeyondTheBudgetIsRefused) {
  ImageDisk image({.budget_bytes = 1 << 20});
  TarBuilder tar;
  for (uint64_t i = 0; i < 30'000; ++i) {
    tar.symlink(fmt::format("{:x}/{}", i % 251, i * 7919), fmt::format("{:x}", i * 40503));
  }
  EXPECT_THAT(refusal<CapacityError>(image, tar.end().bytes()), HasSubstr("--metadata-budget"));
}

}  // namespace
}  // namespace obd::blockfs
