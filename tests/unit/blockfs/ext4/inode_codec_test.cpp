#include "blockfs/ext4/inode_codec.h"

#include <gtest/gtest.h>

#include "common/endian.h"

namespace obd::blockfs {
namespace {

InodeBytes inode_with(const InodeAttributes& attributes) {
  InodeBytes inode;
  inode.initialise(attributes);
  return inode;
}

std::pair<int64_t, uint32_t> time_kept(int64_t seconds, uint32_t nanoseconds) {
  const InodeAttributes kept =
      inode_with({.mtime_seconds = seconds, .mtime_nanoseconds = nanoseconds}).attributes();
  return {kept.mtime_seconds, kept.mtime_nanoseconds};
}

/// The device number's two words, old form and new.
std::pair<uint32_t, uint32_t> device_words(uint32_t major, uint32_t minor) {
  InodeBytes inode = inode_with({.type = FileType::kCharDevice});
  inode.set_device(major, minor);
  const ExtentRoot words = inode.extent_root();
  return {load_le<uint32_t>(&words[0]), load_le<uint32_t>(&words[4])};
}

constexpr int64_t kEarliest = -(int64_t{1} << 31);                        // 1901-12-13
constexpr int64_t kLatest = (int64_t{3} << 32) + (int64_t{1} << 31) - 1;  // 2446-05-10

TEST(InodeCodec, TimesWithinExt4sRangeAreKeptToTheNanosecond) {
  for (const int64_t seconds :
       {kEarliest, int64_t{-1}, int64_t{0}, int64_t{1}, (int64_t{1} << 31) - 1, int64_t{1} << 31,
        (int64_t{1} << 32) - 1, int64_t{1} << 32, int64_t{1} << 33, int64_t{3} << 32, kLatest}) {
    EXPECT_EQ(time_kept(seconds, 999'999'999), (std::pair<int64_t, uint32_t>(seconds, 999'999'999)));
  }
}

TEST(InodeCodec, TimesBeyondItAreClamped) {
  using Time = std::pair<int64_t, uint32_t>;
  EXPECT_EQ(time_kept(kEarliest - 1, 5), Time(kEarliest, 0));
  EXPECT_EQ(time_kept(INT64_MIN, 5), Time(kEarliest, 0));
  EXPECT_EQ(time_kept(kLatest + 1, 5), Time(kLatest, 0));
  EXPECT_EQ(time_kept(INT64_MAX, 5), Time(kLatest, 0));
}

TEST(InodeCodec, IdsHave32Bits) {
  for (const uint32_t id : {0u, 1u, 65535u, 65536u, 0x12345678u, UINT32_MAX}) {
    const InodeAttributes kept = inode_with({.uid = id, .gid = ~id}).attributes();
    EXPECT_EQ(kept.uid, id);
    EXPECT_EQ(kept.gid, ~id);
  }
}

TEST(InodeCodec, TypeAndAllTwelveModeBitsAreKept) {
  for (const FileType type :
       {FileType::kFile, FileType::kDirectory, FileType::kCharDevice, FileType::kBlockDevice, FileType::kFifo,
        FileType::kSocket, FileType::kSymlink}) {
    for (const uint32_t permissions : {0u, 0644u, 07777u}) {
      const InodeAttributes kept = inode_with({.type = type, .permissions = permissions}).attributes();
      EXPECT_EQ(kept.type, type);
      EXPECT_EQ(kept.permissions, permissions);
    }
  }
}

TEST(InodeCodec, DeviceNumbersTakeTheOldFormWhereTheyFit) {
  using Words = std::pair<uint32_t, uint32_t>;
  EXPECT_EQ(device_words(0, 0), Words(0, 0));
  EXPECT_EQ(device_words(5, 1), Words(0x501, 0));
  EXPECT_EQ(device_words(255, 255), Words(0xFFFF, 0));
  EXPECT_EQ(device_words(256, 0), Words(0, 0x10000));
  EXPECT_EQ(device_words(8, 256), Words(0, 0x100800));
  EXPECT_EQ(device_words(4095, 0xFFFFF), Words(0, 0xFFFFFFFF));
}

TEST(InodeCodec, TargetsOfLessThanSixtyBytesStandInTheInode) {
  for (const size_t length : {1, 59}) {
    InodeBytes inode = inode_with({.type = FileType::kSymlink});
    inode.set_inline_target(std::string(length, 't'));
    EXPECT_EQ(inode.inline_target(), std::string(length, 't'));
    EXPECT_EQ(inode.size(), length);
  }
}

TEST(InodeCodec, AttributesChangeWithoutSizeLinksOrContent) {
  InodeBytes inode = inode_with({.type = FileType::kFile});
  ExtentRoot root{};
  root.fill(std::byte{0x5A});
  inode.set_extent_root(root);
  inode.set_size((uint64_t{7} << 32) + 5);
  inode.set_links(64999);
  inode.set_attributes({.type = FileType::kFile, .permissions = 04755, .uid = 70000, .mtime_seconds = -1});
  EXPECT_EQ(inode.size(), (uint64_t{7} << 32) + 5);
  EXPECT_EQ(inode.links(), 64999u);
  EXPECT_EQ(inode.extent_root(), root);
  EXPECT_TRUE(inode.has_extents());
  EXPECT_EQ(inode.attributes().uid, 70000u);
}

TEST(InodeCodec, NewInodeHasOneLinkAndAnEmptyExtentTree) {
  InodeBytes file = inode_with({.type = FileType::kFile});
  EXPECT_EQ(file.links(), 1u);
  EXPECT_EQ(file.size(), 0u);
  EXPECT_TRUE(file.has_extents());
  EXPECT_FALSE(file.has_xattrs());
  EXPECT_TRUE(walk_extent_tree(file.extent_root(), {}).extents.empty());
  EXPECT_FALSE(inode_with({.type = FileType::kFifo}).has_extents());
}

}  // namespace
}  // namespace obd::blockfs
