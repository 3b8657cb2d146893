#include "blockfs/ext4/extent_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "common/endian.h"

namespace obd::blockfs {
namespace {

constexpr size_t kBlockEntries = 340;  // (4096 - 12) / 12

/// Where trees have their blocks: a map.
struct Blocks {
  std::map<uint64_t, MetadataStore::Page> pages;
  uint64_t next = 1000;
  ExtentTreeIo io = {.read =
                         [this](uint64_t block, MetadataStore::Page& out) {
                           const auto at = pages.find(block);
                           out = at == pages.end() ? MetadataStore::Page{} : at->second;
                         },
                     .write = [this](uint64_t block, MetadataStore::Page& page) { pages[block] = page; },
                     .allocate = [this] { return next++; },
                     .block_count = uint64_t{1} << 40};
};

std::vector<FileExtent> random_extents(std::mt19937_64& random, size_t count) {
  std::vector<FileExtent> extents;
  uint64_t logical = random() % 10;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t blocks = 1 + random() % 100;
    extents.push_back({logical, {10'000'000 + random() % (uint64_t{1} << 39), blocks}});
    logical += blocks + random() % 5;
  }
  return extents;
}

bool same(const std::vector<FileExtent>& a, const std::vector<FileExtent>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const FileExtent& x, const FileExtent& y) {
    return x.logical == y.logical && x.physical == y.physical;
  });
}

TEST(ExtentTree, GivesBackWhatItWasBuiltFrom) {
  std::mt19937_64 random(5);
  const size_t leaves = 4 * kBlockEntries;
  for (const size_t count : {size_t{0}, size_t{1}, size_t{4}, size_t{5}, kBlockEntries, kBlockEntries + 1,
                             leaves, leaves + 1, 3 * leaves}) {
    Blocks blocks;
    const auto extents = random_extents(random, count);
    const BuiltTree built = build_extent_tree(extents, blocks.io);
    const WalkedTree walked = walk_extent_tree(built.root, blocks.io);
    EXPECT_TRUE(same(walked.extents, extents)) << count;
    EXPECT_EQ(walked.tree_blocks.size(), built.tree_blocks) << count;
    EXPECT_EQ(blocks.pages.size(), built.tree_blocks) << count;
  }
}

TEST(ExtentTree, TakesAsFewBlocksAsItCan) {
  std::mt19937_64 random(6);
  const auto blocks_for = [&](size_t count) {
    Blocks blocks;
    return build_extent_tree(random_extents(random, count), blocks.io).tree_blocks;
  };
  EXPECT_EQ(blocks_for(4), 0u);
  EXPECT_EQ(blocks_for(5), 1u);
  EXPECT_EQ(blocks_for(kBlockEntries), 1u);
  EXPECT_EQ(blocks_for(kBlockEntries + 1), 2u);
  EXPECT_EQ(blocks_for(4 * kBlockEntries), 4u);
  EXPECT_EQ(blocks_for(4 * kBlockEntries + 1), 5u + 1u) << "a second level";
}

TEST(ExtentTree, LongRunsAreSplitAtTheFormatsLimit) {
  Blocks blocks;
  const BuiltTree built = build_extent_tree({{7, {100, 3 * 32768 + 5}}}, blocks.io);
  const auto walked = walk_extent_tree(built.root, blocks.io).extents;
  ASSERT_EQ(walked.size(), 4u);
  EXPECT_EQ(walked[0].physical, (BlockRun{100, 32768}));
  EXPECT_EQ(walked[3].logical, 7u + 3 * 32768);
  EXPECT_EQ(walked[3].physical, (BlockRun{100 + 3 * 32768, 5}));
}

/// The root of a tree with one leaf entry.
ExtentRoot root_with(uint16_t count_field, uint64_t physical, uint32_t logical = 0) {
  Blocks blocks;
  ExtentRoot root = build_extent_tree({{logical, {physical, 1}}}, blocks.io).root;
  store_le<uint16_t>(&root[12 + 4], count_field);
  return root;
}

TEST(ExtentTree, BlocksThatWereNeverWrittenCountAsAllocated) {
  Blocks blocks;
  const auto extents = walk_extent_tree(root_with(32768 + 9, 50), blocks.io).extents;
  ASSERT_EQ(extents.size(), 1u);
  EXPECT_EQ(extents[0].physical, (BlockRun{50, 9}));
}

TEST(ExtentTree, ExtentsOutsideTheDiskAreRefused) {
  Blocks blocks;
  blocks.io.block_count = 1000;
  EXPECT_NO_THROW(walk_extent_tree(root_with(1, 999), blocks.io));
  EXPECT_THROW(walk_extent_tree(root_with(2, 999), blocks.io), DataError);
  EXPECT_THROW(walk_extent_tree(root_with(1, 1000), blocks.io), DataError);
  EXPECT_THROW(walk_extent_tree(root_with(1, (uint64_t{1} << 48) - 1), blocks.io), DataError);
  EXPECT_THROW(walk_extent_tree(root_with(1, 0), blocks.io), DataError);
  EXPECT_THROW(walk_extent_tree(root_with(0, 5), blocks.io), DataError);
}

TEST(ExtentTree, OverlappingExtentsAreRefused) {
  Blocks blocks;
  ExtentRoot root = build_extent_tree({{0, {100, 5}}, {5, {200, 5}}}, blocks.io).root;
  store_le<uint32_t>(&root[24], 4);
  EXPECT_THROW(walk_extent_tree(root, blocks.io), DataError);
}

TEST(ExtentTree, DamagedNodesAreRefused) {
  std::mt19937_64 random(8);
  Blocks good;
  const ExtentRoot root = build_extent_tree(random_extents(random, 1000), good.io).root;
  const auto refused = [&](ExtentRoot changed_root, const std::function<void(Blocks&)>& change) {
    Blocks blocks;
    blocks.pages = good.pages;
    change(blocks);
    EXPECT_THROW(walk_extent_tree(changed_root, blocks.io), DataError);
  };
  const auto with = [&](size_t at, uint16_t value) {
    ExtentRoot changed = root;
    store_le<uint16_t>(&changed[at], value);
    return changed;
  };
  refused(with(0, 0xF30B), [](Blocks&) {});  // magic
  refused(with(2, 5), [](Blocks&) {});       // more entries than the inode has room for
  refused(with(6, 6), [](Blocks&) {});       // deeper than any
  refused(with(6, 2), [](Blocks&) {});       // the children are not that deep
  const uint64_t child = good.pages.begin()->first;
  refused(root, [&](Blocks& blocks) { blocks.pages.erase(child); });
  refused(root, [&](Blocks& blocks) { store_le<uint16_t>(&blocks.pages[child][2], kBlockEntries + 1); });
  refused(root, [&](Blocks& blocks) { store_le<uint16_t>(&blocks.pages[child][6], 1); });
  refused(root, [&](Blocks& blocks) { blocks.io.block_count = child; });
}

TEST(ExtentTree, TreeThatLeadsToItselfIsRefused) {
  Blocks blocks;
  std::mt19937_64 random(9);
  const ExtentRoot root = build_extent_tree(random_extents(random, 5), blocks.io).root;
  ExtentRoot deep = root;
  store_le<uint16_t>(&deep[6], 5);
  MetadataStore::Page& node = blocks.pages.begin()->second;
  for (size_t i = 0; i < kBlockEntries; ++i) {
    store_le<uint32_t>(&node[12 + 12 * i], 0);
    store_le<uint32_t>(&node[12 + 12 * i + 4], static_cast<uint32_t>(blocks.pages.begin()->first));
    store_le<uint32_t>(&node[12 + 12 * i + 8], 0);
  }
  store_le<uint16_t>(&node[2], kBlockEntries);
  store_le<uint16_t>(&node[6], 4);
  EXPECT_THROW(walk_extent_tree(deep, blocks.io), DataError);
}

TEST(ExtentTree, RandomDamageNeverDoesMoreThanThrowDataError) {
  std::mt19937_64 random(10);
  Blocks good;
  good.io.block_count = uint64_t{1} << 20;
  std::vector<FileExtent> extents;
  for (uint64_t i = 0; i < 800; ++i) extents.push_back({i * 3, {1 + i * 7, 2}});
  const ExtentRoot root = build_extent_tree(extents, good.io).root;
  for (int round = 0; round < 500; ++round) {
    ExtentRoot damaged_root = root;
    Blocks blocks;
    blocks.pages = good.pages;
    blocks.io.block_count = good.io.block_count;
    for (int i = 0; i < 3; ++i) {
      damaged_root[random() % damaged_root.size()] = static_cast<std::byte>(random());
      auto page = blocks.pages.begin();
      std::advance(page, static_cast<ptrdiff_t>(random() % blocks.pages.size()));
      page->second[random() % (random() % 2 ? 64 : kBlockBytes)] = static_cast<std::byte>(random());
    }
    try {
      walk_extent_tree(damaged_root, blocks.io);
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace obd::blockfs
