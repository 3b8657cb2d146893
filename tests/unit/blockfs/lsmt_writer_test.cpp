#include "blockfs/lsmt_writer.h"

#include <gtest/gtest.h>

#include "blockfs/lsmt_layer.h"
#include "tests/unit/blockfs/blob_builder.h"

namespace obd::blockfs {
namespace {

using test::Bytes;

constexpr uint64_t kDiskBytes = 4 << 20;

Bytes empty_disk() {
  return Bytes(kDiskBytes);
}

/// What a layer's index and data say of the disk, over `below`.
Bytes replay(const Bytes& file, Bytes below) {
  const LsmtLayer layer(test::source_of(file));
  for (const LsmtEntry& entry : layer.index()) {
    const std::span out(below.data() + entry.sector * kSectorBytes, entry.sectors * kSectorBytes);
    if (entry.zeroed) {
      std::fill(out.begin(), out.end(), std::byte{0});
    } else {
      layer.read_data(entry.data_sector, out);
    }
  }
  return below;
}

TEST(LsmtWriter, AnEmptyLayerHasAHeaderAndATrailer) {
  ModelledLayer layer(empty_disk(), kUuidA, "");
  EXPECT_TRUE(layer.finish("nothing in it").empty());
  EXPECT_EQ(layer.file().size(), 2 * LsmtHeader::kBytes);
  const LsmtLayer read(test::source_of(layer.file()));
  EXPECT_EQ(read.header().uuid, kUuidA);
  EXPECT_EQ(read.header().parent_uuid, "");
  EXPECT_EQ(read.header().user_tag, "nothing in it");
  EXPECT_EQ(read.header().virtual_bytes, kDiskBytes);
  EXPECT_TRUE(read.index().empty());
}

TEST(LsmtWriter, NeighbouringWritesBecomeOneRun) {
  ModelledLayer layer(empty_disk(), kUuidA, "");
  for (uint64_t sector = 100; sector < 164; sector += 8) layer.write(sector, mixed_bytes(4096, sector));
  const auto index = layer.finish();
  ASSERT_EQ(index.size(), 1U);
  EXPECT_EQ(index[0], (LsmtEntry{100, 8, 64, false, 0}));
}

TEST(LsmtWriter, ALongRunIsCutIntoWholeBlocks) {
  ModelledLayer layer(Bytes(20 << 20), kUuidA, "");
  layer.write(0, Bytes(17'000 * kSectorBytes, std::byte{1}));
  layer.write_zeroes(17'000, 20'000);
  const auto index = layer.finish();
  ASSERT_EQ(index.size(), 4U);
  for (const LsmtEntry& entry : index) EXPECT_LE(entry.sectors, LsmtEntry::kMaxRunSectors);
  EXPECT_EQ(index[0].sectors, LsmtEntry::kMaxRunSectors);
  EXPECT_EQ(index[0].sectors % kSectorsPerBlock, 0U);
  EXPECT_EQ(replay(layer.file(), Bytes(20 << 20)), layer.disk());
}

TEST(LsmtWriter, LaterWritesWinWhereverTheyOverlap) {
  // Every way in which one run can lie on another: [10, 20) against [from, to).
  for (uint64_t from = 8; from < 22; ++from) {
    for (uint64_t to = from + 1; to < 24; ++to) {
      for (const bool zeroed : {false, true}) {
        ModelledLayer layer(empty_disk(), kUuidA, "");
        layer.write(10, mixed_bytes(10 * kSectorBytes, 1));
        if (zeroed) {
          layer.write_zeroes(from, to - from);
        } else {
          layer.write(from, mixed_bytes((to - from) * kSectorBytes, 2));
        }
        layer.finish();
        ASSERT_EQ(replay(layer.file(), empty_disk()), layer.disk()) << from << " " << to << " " << zeroed;
      }
    }
  }
}

TEST(LsmtWriter, RandomWritesReadBackLikeAFlatArray) {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const Bytes below = mixed_bytes(kDiskBytes, seed);
    ModelledLayer layer(below, kUuidA, "");
    layer.scribble(random, static_cast<int>(random() % 400));
    const auto index = layer.finish();
    for (size_t i = 1; i < index.size(); ++i) ASSERT_LE(index[i - 1].end(), index[i].sector);
    const LsmtLayer read(test::source_of(layer.file()));
    ASSERT_EQ(read.index(), index);
    ASSERT_EQ(replay(layer.file(), below), layer.disk());
  }
}

TEST(LsmtWriter, TheIndexIsPaddedToWholePages) {
  ModelledLayer layer(empty_disk(), kUuidA, "");
  for (uint64_t sector = 0; sector < 600; sector += 2) layer.write(sector, mixed_bytes(kSectorBytes, sector));
  EXPECT_EQ(layer.finish().size(), 300U);
  const LsmtLayer read(test::source_of(layer.file()));
  EXPECT_EQ(read.header().index_entries, 512U);
  EXPECT_EQ(read.index().size(), 300U);
  EXPECT_EQ(layer.file().size(), 4096 + 300 * kSectorBytes + 512 * 16 + 4096);
}

TEST(LsmtWriter, MoreRunsThanReadersAcceptIsACapacityError) {
  const uint64_t runs = LsmtHeader::kMaxEntries + 1;
  LsmtWriter writer([](std::span<const std::byte>) {}, runs * 2 * kSectorBytes, kUuidA, "");
  for (uint64_t i = 0; i < runs; ++i) writer.write_zeroes(i * 2, 1);
  EXPECT_THROW(writer.finish_index(), CapacityError);
}

TEST(ResolveOverlaps, KeepsDisjointRunsAsTheyAre) {
  const std::vector<LsmtEntry> runs = {{20, 8, 5, false, 0}, {0, 13, 5, false, 0}, {10, 0, 10, true, 0}};
  const std::vector<LsmtEntry> sorted = {runs[1], runs[2], runs[0]};
  EXPECT_EQ(resolve_overlaps(runs), sorted);
}

TEST(ResolveOverlaps, ARunInsideAnotherSplitsIt) {
  const std::vector<LsmtEntry> runs = {{0, 100, 30, false, 0}, {10, 200, 5, false, 0}};
  const std::vector<LsmtEntry> split = {
      {0, 100, 10, false, 0}, {10, 200, 5, false, 0}, {15, 115, 15, false, 0}};
  EXPECT_EQ(resolve_overlaps(runs), split);
}

}  // namespace
}  // namespace obd::blockfs
