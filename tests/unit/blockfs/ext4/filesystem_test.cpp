#include "blockfs/ext4/filesystem.h"

#include <gmock/gmock.h>

#include "blockfs/ext4/capacity.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/blockfs/ext4/image_disk.h"

namespace obd::blockfs {
namespace {

using test::TarBuilder;

const test::Bytes kEmptyLayer(1024);

TEST(Filesystem, EmptyDiskOfAnySizeIsMadeQuicklyAndReopens) {
  for (const uint64_t gib : {1, 3, 64, 16384}) {
    ImageDisk image({.gib = gib});
    const LayerCapture made = image.apply(kEmptyLayer);
    EXPECT_LT(made.blocks.size(), gib == 16384 ? 12000u : 200u) << gib;
    const uint64_t free_blocks = image.filesystem().free_blocks();
    const uint32_t free_inodes = image.filesystem().free_inodes();
    EXPECT_EQ(image.filesystem().block_count(), gib * kGiB / kBlockBytes);
    EXPECT_GT(free_blocks, image.filesystem().block_count() / 10 * 9);
    image.reopen();
    EXPECT_EQ(image.filesystem().free_blocks(), free_blocks);
    EXPECT_EQ(image.filesystem().free_inodes(), free_inodes);
    EXPECT_TRUE(image.listing().empty());
  }
}

TEST(Filesystem, EmptyDiskPassesTheChecker) {
  for (const uint64_t gib : {1, 2, 17}) {
    ImageDisk image({.gib = gib});
    image.apply(kEmptyLayer);
    EXPECT_EQ(image.complaints(), "") << gib;
  }
}

TEST(Filesystem, BytesDependOnTheSizeAlone) {
  ImageDisk one;
  ImageDisk two;
  EXPECT_EQ(one.apply(kEmptyLayer).calls, two.apply(kEmptyLayer).calls);
}

TEST(Filesystem, ReopenedItGivesOutTheSameBlocksAndInodes) {
  ImageDisk kept;
  ImageDisk reopened;
  const auto churn = [](ImageDisk& image) {
    TarBuilder tar;
    for (int i = 0; i < 40; ++i)
      tar.file(fmt::format("f{}", i), std::string(static_cast<size_t>(i) * 700, 'x'));
    image.apply(tar.end().bytes());
    TarBuilder holes;
    for (int i = 0; i < 40; i += 3) holes.file(fmt::format(".wh.f{}", i), "");
    image.apply(holes.end().bytes());
  };
  churn(kept);
  churn(reopened);
  reopened.reopen();
  kept.filesystem().begin_layer();
  reopened.filesystem().begin_layer();
  for (const uint64_t count : {1, 5, 1000, 1, 70000, 3}) {
    EXPECT_EQ(kept.filesystem().allocate_blocks(count), reopened.filesystem().allocate_blocks(count));
    EXPECT_EQ(kept.filesystem().allocate_inode(count == 5), reopened.filesystem().allocate_inode(count == 5));
  }
}

TEST(Filesystem, BlocksComeInOneRunAndHolesOnlyWhenNothingElseIsLeft) {
  ImageDisk image;
  image.apply(TarBuilder().file("a", std::string(40960, 'a')).file("b", "b").end().bytes());
  image.apply(TarBuilder().file(".wh.a", "").end().bytes());
  Filesystem& filesystem = image.filesystem();
  filesystem.begin_layer();
  const auto runs = filesystem.allocate_blocks(10'000);
  ASSERT_EQ(runs.size(), 1u);
  const auto rest = filesystem.allocate_blocks(filesystem.free_blocks());
  EXPECT_GT(rest.size(), 1u);
  EXPECT_EQ(filesystem.free_blocks(), 0u);
  EXPECT_THROW(filesystem.allocate_blocks(1), DiskFull);
}

TEST(Filesystem, MoreThanIsFreeIsRefusedWithoutTakingAny) {
  ImageDisk image;
  Filesystem& filesystem = image.filesystem();
  const uint64_t free_blocks = filesystem.free_blocks();
  EXPECT_THROW(filesystem.allocate_blocks(free_blocks + 1), DiskFull);
  EXPECT_EQ(filesystem.free_blocks(), free_blocks);
}

TEST(Filesystem, InodesRunOutWithDiskFull) {
  ImageDisk image;
  Filesystem& filesystem = image.filesystem();
  uint32_t last = 0;
  for (uint32_t left = filesystem.free_inodes(); left > 0; --left) {
    const uint32_t inode = filesystem.allocate_inode(false);
    ASSERT_GT(inode, last);
    last = inode;
  }
  EXPECT_EQ(last, filesystem.inode_count());
  EXPECT_THROW(filesystem.allocate_inode(false), DiskFull);
}

TEST(Filesystem, LinksEndAtExt4sLimit) {
  ImageDisk image;
  const uint32_t inode = image.filesystem().allocate_inode(false);
  image.filesystem().create_inode(inode, {.type = FileType::kFile}, {});
  for (int links = 1; links < 65000; ++links) image.filesystem().add_link(inode);
  EXPECT_THROW(image.filesystem().add_link(inode), CapacityError);
}

TEST(Filesystem, SymlinksOfEveryLengthComeBack) {
  ImageDisk image;
  Filesystem& filesystem = image.filesystem();
  filesystem.begin_layer();
  for (const size_t length : {1, 58, 59, 60, 61, 255, 1000, 4094, 4095}) {
    const std::string target(length, 't');
    const uint32_t inode = filesystem.allocate_inode(false);
    filesystem.create_inode(inode, {.type = FileType::kSymlink}, {});
    filesystem.set_symlink_target(inode, target);
    EXPECT_EQ(filesystem.symlink_target(inode), target);
  }
}

TEST(Filesystem, AttributesThatDoNotFitAreRefusedAsCapacity) {
  ImageDisk image;
  Filesystem& filesystem = image.filesystem();
  filesystem.begin_layer();
  const uint32_t inode = filesystem.allocate_inode(false);
  EXPECT_NO_THROW(filesystem.create_inode(inode, {}, {{"user.big", std::string(3900, 'x')}}));
  const uint32_t other = filesystem.allocate_inode(false);
  EXPECT_THROW(filesystem.create_inode(other, {}, {{"user.big", std::string(5000, 'x')}}), CapacityError);
}

TEST(Filesystem, GarbageIsNoFilesystem) {
  SparseDisk disk(kGiB);
  MetadataStore store(disk, 1 << 20);
  EXPECT_THROW(Filesystem::open(store), DataError);
}

TEST(Filesystem, DamagedSuperblockIsRefusedNotTrusted) {
  ImageDisk image;
  image.apply(kEmptyLayer);
  const test::Bytes good = image.disk().blocks().at(0);
  for (size_t at = 1024; at < 2048; ++at) {
    test::Bytes damaged = good;
    damaged[at] ^= std::byte{0x41};
    image.disk().put(0, damaged);
    MetadataStore store(image.disk(), 8 << 20);
    EXPECT_THROW(Filesystem::open(store), Error) << "byte " << at << " has a checksum over it";
  }
}

TEST(XattrNames, OnlyNamespacesOfLinuxCanBeStored) {
  for (const char* name : {"user.x", "trusted.overlay.opaque", "security.capability",
                           "system.posix_acl_access", "system.posix_acl_default"}) {
    EXPECT_TRUE(is_storable_xattr(name, FileType::kFile)) << name;
    EXPECT_TRUE(is_storable_xattr(name, FileType::kDirectory)) << name;
  }
  for (const char* name :
       {"", "user", "user.", "com.apple.quarantine", "system.", "system.nfs4_acl", "USER.x"}) {
    EXPECT_FALSE(is_storable_xattr(name, FileType::kFile)) << name;
  }
  for (const FileType type :
       {FileType::kSymlink, FileType::kFifo, FileType::kCharDevice, FileType::kBlockDevice}) {
    EXPECT_FALSE(is_storable_xattr("user.x", type));
    EXPECT_TRUE(is_storable_xattr("trusted.x", type));
  }
}

TEST(VsizeAdvice, NamesADiskThatHoldsTheImageOrSaysThatNoneDoes) {
  EXPECT_EQ(vsize_advice(1, {.blocks = 1, .inodes = 1}), "--vsize 2 would do");
  const CapacityNeeds ten_gib{.blocks = 10 * kGiB / kBlockBytes, .inodes = 1000};
  EXPECT_THAT(vsize_advice(4, ten_gib), testing::MatchesRegex("--vsize 1[0-9] would do"));
  EXPECT_THAT(vsize_advice(1, {.blocks = 0, .inodes = 3'000'000}), testing::HasSubstr("would do"));
  EXPECT_EQ(vsize_advice(1, {.blocks = uint64_t{1} << 40, .inodes = 1}),
            "no disk up to --vsize 16384 holds the image");
  EXPECT_EQ(vsize_advice(16384, {.blocks = uint64_t{1} << 40, .inodes = 1}),
            "no disk up to --vsize 16384 holds the image");
}

}  // namespace
}  // namespace obd::blockfs
