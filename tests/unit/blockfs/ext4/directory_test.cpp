#include "blockfs/ext4/directory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/blockfs/ext4/image_disk.h"

namespace obd::blockfs {
namespace {

using Model = std::map<std::string, std::pair<uint32_t, FileType>>;

Model content_of(const Directory& directory) {
  Model content;
  for (Directory::Index at = 0; at < directory.end(); ++at) {
    const Directory::Entry& entry = directory.entry(at);
    if (entry.inode == 0) continue;
    EXPECT_TRUE(content.emplace(directory.name(at), std::pair(entry.inode, entry.type)).second) << "twice";
  }
  return content;
}

std::string random_name(std::mt19937_64& random) {
  std::string name(1 + random() % (random() % 10 == 0 ? 255 : 12), '\0');
  for (char& c : name) {
    do {
      c = static_cast<char>(random());
    } while (c == '/' || c == '\0');
  }
  return name == "." || name == ".." ? "x" : name;
}

TEST(Directory, BehavesAsAMap) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    Directory directory(12, 2);
    Model model;
    std::vector<std::string> names;
    for (int i = 0; i < 300; ++i) names.push_back(random_name(random));
    for (int step = 0; step < 5000; ++step) {
      const std::string& name = names[random() % names.size()];
      const auto inode = static_cast<uint32_t>(11 + random() % 1000);
      const FileType type = random() % 3 == 0 ? FileType::kDirectory : FileType::kFile;
      const Directory::Index at = directory.find(name);
      ASSERT_EQ(at != Directory::kNone, model.contains(name));
      if (at == Directory::kNone) {
        directory.insert(name, inode, type, true);
        model[name] = {inode, type};
      } else if (random() % 2 == 0) {
        directory.replace(at, inode, type);
        model[name] = {inode, type};
      } else {
        ASSERT_EQ(directory.name(at), name);
        directory.remove(at);
        model.erase(name);
      }
    }
    EXPECT_EQ(content_of(directory), model);
    EXPECT_EQ(directory.subdirectories(),
              static_cast<size_t>(std::count_if(model.begin(), model.end(), [](const auto& item) {
                return item.second.second == FileType::kDirectory;
              })));
  }
}

/// Writes a directory as the root of a new filesystem and reads it back.
class DirectoryOnDisk : public testing::Test {
 protected:
  EncodedDirectory write(const Directory& directory) {
    EncodedDirectory encoded = encode_directory(directory, image_.filesystem());
    image_.filesystem().write_directory(Filesystem::kRootInode, encoded.blocks, encoded.indexed,
                                        static_cast<uint32_t>(directory.subdirectories() + 2));
    return encoded;
  }
  void expect_round_trip(const Directory& directory) {
    write(directory);
    const Directory read = Directory::load(image_.filesystem(), Filesystem::kRootInode);
    EXPECT_EQ(read.parent(), Filesystem::kRootInode);
    EXPECT_TRUE(content_of(read) == content_of(directory));
  }

  ImageDisk image_;
};

Directory with_names(size_t count, size_t name_bytes) {
  Directory directory(Filesystem::kRootInode, Filesystem::kRootInode);
  for (size_t i = 0; i < count; ++i) {
    std::string name = fmt::format("{:06}", i);
    name.resize(name_bytes, 'x');
    directory.insert(name, static_cast<uint32_t>(11 + i), FileType::kFile, true);
  }
  return directory;
}

TEST_F(DirectoryOnDisk, ComesBackAsItWasWritten) {
  std::mt19937_64 random(11);
  for (const size_t count : {0, 1, 2, 100, 400, 5000}) {
    Directory directory(Filesystem::kRootInode, Filesystem::kRootInode);
    while (directory.end() < count) {
      const std::string name = random_name(random);
      if (directory.find(name) == Directory::kNone) {
        directory.insert(name, static_cast<uint32_t>(11 + random() % 200000), FileType::kFile, true);
      }
    }
    expect_round_trip(directory);
  }
}

TEST_F(DirectoryOnDisk, IsIndexedFromTheFirstNameThatDoesNotFitOneBlock) {
  // 12-byte dot entries, 12 bytes of checksum: 4060 bytes for records of 8 + 12 bytes.
  const EncodedDirectory full = write(with_names(203, 12));
  EXPECT_EQ(full.blocks.size(), kBlockBytes);
  EXPECT_FALSE(full.indexed);
  const EncodedDirectory more = write(with_names(204, 12));
  EXPECT_EQ(more.blocks.size(), 2 * kBlockBytes) << "a root and a leaf, which has no dot entries";
  EXPECT_TRUE(more.indexed);
  expect_round_trip(with_names(203, 12));
  expect_round_trip(with_names(204, 12));
}

TEST_F(DirectoryOnDisk, LongestNamesFillTheirBlocks) {
  expect_round_trip(with_names(15, 255));
  expect_round_trip(with_names(16, 255));
  expect_round_trip(with_names(500, 255));
}

TEST_F(DirectoryOnDisk, HundredThousandNamesMakeATreeOfTwoLevels) {
  const Directory directory = with_names(100'000, 40);
  const EncodedDirectory encoded = write(directory);
  EXPECT_TRUE(encoded.indexed);
  EXPECT_EQ(std::to_integer<int>(encoded.blocks[30]), 1) << "levels below the root";
  const Directory read = Directory::load(image_.filesystem(), Filesystem::kRootInode);
  EXPECT_TRUE(content_of(read) == content_of(directory));
}

TEST_F(DirectoryOnDisk, BytesDoNotDependOnTheOrderOfChanges) {
  std::mt19937_64 random(12);
  for (const size_t count : {50, 2000}) {
    const Directory straight = with_names(count, 20);
    Directory shuffled(Filesystem::kRootInode, Filesystem::kRootInode);
    shuffled.insert("was here once", 5, FileType::kDirectory, true);
    std::vector<Directory::Index> order(count);
    for (size_t i = 0; i < count; ++i) order[i] = static_cast<Directory::Index>(i);
    std::shuffle(order.begin(), order.end(), random);
    for (const Directory::Index at : order) {
      shuffled.insert(straight.name(at), straight.entry(at).inode, FileType::kFile, false);
    }
    shuffled.remove(shuffled.find("was here once"));
    EXPECT_EQ(encode_directory(straight, image_.filesystem()).blocks,
              encode_directory(shuffled, image_.filesystem()).blocks);
  }
}

TEST_F(DirectoryOnDisk, ShrunkDirectoryGivesItsBlocksBack) {
  write(with_names(10, 10));
  const uint64_t free_before = image_.filesystem().free_blocks();
  write(with_names(10'000, 30));
  EXPECT_LT(image_.filesystem().free_blocks(), free_before - 80);
  write(with_names(10, 10));
  EXPECT_EQ(image_.filesystem().free_blocks(), free_before);
}

TEST_F(DirectoryOnDisk, RandomDamageNeverDoesMoreThanThrowDataError) {
  std::mt19937_64 random(13);
  write(with_names(400, 20));
  const uint64_t first = image_.filesystem().content_blocks(Filesystem::kRootInode).front().first;
  for (int round = 0; round < 2000; ++round) {
    auto block = image_.filesystem().read_directory_block(first + random() % 3);
    for (int i = 0; i < 2; ++i)
      block[random() % (random() % 2 ? 40 : kBlockBytes)] = static_cast<std::byte>(random());
    image_.store().write(first + 1, std::span<const std::byte, kBlockBytes>(block));
    try {
      Directory::load(image_.filesystem(), Filesystem::kRootInode);
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace obd::blockfs
