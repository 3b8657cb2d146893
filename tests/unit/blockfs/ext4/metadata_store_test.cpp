#include "blockfs/ext4/metadata_store.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "common/endian.h"
#include "common/error.h"
#include "tests/unit/blockfs/ext4/image_disk.h"

namespace obd::blockfs {
namespace {

using Page = MetadataStore::Page;

constexpr uint64_t kBlocks = 200;

/// A page of one byte, of noise, or of noise with a byte's difference from `like`.
Page random_page(std::mt19937_64& random, const Page& like) {
  Page page = like;
  switch (random() % 4) {
    case 0:
      page.fill(static_cast<std::byte>(random()));
      break;
    case 1:
      for (std::byte& b : page) b = static_cast<std::byte>(random());
      break;
    case 2:
      page[random() % page.size()] ^= std::byte{1};
      break;
    default:
      break;  // the same again
  }
  return page;
}

/// The store against a plain map, over several layers; each layer's blocks go to the disk below.
void compare_with_model(uint64_t seed, uint64_t budget_bytes) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", budget " << budget_bytes);
  std::mt19937_64 random(seed);
  SparseDisk disk(kBlocks * kBlockBytes);
  MetadataStore store(disk, budget_bytes);
  std::map<uint64_t, Page> model;  // what reads should give
  std::map<uint64_t, Page> below;
  for (int layer = 0; layer < 5; ++layer) {
    const uint64_t touched = 1 + random() % 40;
    const uint64_t first = random() % (kBlocks - touched);
    std::map<uint64_t, bool> forgotten;
    for (int step = 0; step < 300; ++step) {
      const uint64_t block = first + random() % touched;
      switch (random() % 5) {
        case 0:
        case 1: {
          const Page page = random_page(random, model[block]);
          store.write(block, page);
          model[block] = page;
          forgotten.erase(block);
          break;
        }
        case 2:
          if (random() % 4 == 0) {
            store.forget(block);
            forgotten[block] = true;
            model[block] = below[block];
          }
          break;
        case 3: {  // far away: makes others leave the memory
          const uint64_t other = random() % kBlocks;
          Page page;
          store.read(other, page);
          ASSERT_EQ(page, model[other]);
          break;
        }
        default: {
          Page page;
          store.read(block, page);
          ASSERT_EQ(page, model[block]);
        }
      }
    }
    std::map<uint64_t, Page> emitted;
    uint64_t last = 0;
    store.flush([&](uint64_t block, std::span<const std::byte> data) {
      EXPECT_TRUE(emitted.empty() || block > last) << "in ascending order";
      last = block;
      std::copy(data.begin(), data.end(), emitted[block].begin());
    });
    std::map<uint64_t, Page> expected;
    for (const auto& [block, page] : model) {
      if (page != below[block]) expected[block] = page;
    }
    ASSERT_EQ(emitted, expected) << "layer " << layer;
    for (const auto& [block, page] : emitted) {
      disk.put(block, page);
      below[block] = page;
    }
  }
  for (uint64_t block = 0; block < kBlocks; ++block) {
    Page page;
    store.read(block, page);
    ASSERT_EQ(page, model[block]) << block;
  }
}

TEST(MetadataStore, BehavesAsAMapWhateverItsBudget) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    for (const uint64_t budget : {400 << 10, 600 << 10, 16 << 20}) compare_with_model(seed, budget);
  }
}

TEST(MetadataStore, BlockRewrittenAsItWasIsNoChange) {
  SparseDisk disk(1 << 20);
  Page old;
  old.fill(std::byte{7});
  disk.put(3, old);
  MetadataStore store(disk, 1 << 20);
  Page other{};
  store.write(3, other);
  store.write(3, old);     // without having been read
  store.write(4, Page{});  // zero, as the disk is
  int emitted = 0;
  store.flush([&](uint64_t, std::span<const std::byte>) { ++emitted; });
  EXPECT_EQ(emitted, 0);
}

TEST(MetadataStore, WhatLiesBeyondTheDiskBelowIsZero) {
  SparseDisk disk(0);
  MetadataStore store(disk, 1 << 20);
  Page page;
  page.fill(std::byte{1});
  store.read(uint64_t{1} << 32, page);
  EXPECT_EQ(page, Page{});
}

TEST(MetadataStore, ChangesBeyondTheBudgetAreRefused) {
  SparseDisk disk(1 << 20);
  MetadataStore store(disk, 256 << 10);
  std::mt19937_64 random(3);
  EXPECT_THROW(
      {
        for (uint64_t block = 0; block < 1000; ++block) {
          Page page;
          for (std::byte& b : page) b = static_cast<std::byte>(random());
          store.write(block, page);
        }
      },
      CapacityError);
}

TEST(MetadataStore, UnchangedBlocksNeverExceedTheBudget) {
  SparseDisk disk(100 << 20);
  MetadataStore store(disk, 256 << 10);
  for (uint64_t block = 0; block < 20000; ++block) {
    Page page;
    store.read(block, page);
    ASSERT_LE(store.memory_bytes(), 256u << 10);
  }
}

TEST(MetadataStore, ChangedBlocksThatCompressTakeLittle) {
  SparseDisk disk(100 << 20);
  MetadataStore store(disk, 1 << 20);
  Page page{};
  for (uint64_t block = 0; block < 2000; ++block) {  // eight times the budget
    store_le<uint64_t>(page.data(), block + 1);
    store.write(block, page);
  }
  uint64_t next = 0;
  store.flush([&](uint64_t block, std::span<const std::byte> data) {
    EXPECT_EQ(block, next);
    EXPECT_EQ(load_le<uint64_t>(data.data()), ++next);
  });
  EXPECT_EQ(next, 2000u);
}

TEST(MetadataStore, WhatOthersHoldCountsToo) {
  SparseDisk disk(1 << 20);
  MetadataStore store(disk, 1 << 20);
  store.charge(900 << 10);
  EXPECT_THROW(store.charge(200 << 10), CapacityError);
}

TEST(MetadataStore, ForgottenBlockIsNotPartOfTheLayer) {
  SparseDisk disk(1 << 20);
  MetadataStore store(disk, 1 << 20);
  Page page;
  page.fill(std::byte{1});
  store.write(5, page);
  store.forget(5);
  store.forget(6);
  store.flush([&](uint64_t block, std::span<const std::byte>) { ADD_FAILURE() << block; });
  EXPECT_EQ(store.memory_bytes(), 0u);
}

/// A disk that cannot be read.
class BrokenDisk final : public ByteSource {
 public:
  uint64_t size() const override { return 1 << 20; }
  std::string name() const override { return "broken"; }

 protected:
  void do_read_at(uint64_t, std::span<std::byte>) const override { throw IoError("broken"); }
};

TEST(MetadataStore, BlockThatCouldNotBeReadIsNotTakenForZero) {
  const BrokenDisk disk;
  MetadataStore store(disk, 1 << 20);
  Page page;
  EXPECT_THROW(store.read(1, page), IoError);
  EXPECT_THROW(store.read(1, page), IoError) << "again";
  EXPECT_EQ(store.memory_bytes(), 0u);
}

}  // namespace
}  // namespace obd::blockfs
