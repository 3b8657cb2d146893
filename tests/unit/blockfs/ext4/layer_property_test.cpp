#include <gtest/gtest.h>

#include "tests/unit/blockfs/ext4/image_disk.h"
#include "tests/unit/blockfs/ext4/random_layers.h"

namespace obd::blockfs {
namespace {

constexpr int kLayers = 6;

std::vector<test::Bytes> random_image(uint64_t seed) {
  RandomLayers layers(seed);
  std::vector<test::Bytes> image;
  for (int i = 0; i < kLayers; ++i) image.push_back(layers.next(40));
  return image;
}

/// A type that the listing shows, in the letters of RandomLayers.
char letter_of(const std::string& listed) {
  return listed[0] == 'f' || listed[0] == 'd' ? listed[0] : 'o';
}

class RandomImage : public testing::TestWithParam<uint64_t> {};

TEST_P(RandomImage, ReopeningAfterEachLayerChangesNoByte) {
  const auto image = random_image(GetParam());
  for (const uint64_t budget : {uint64_t{64} << 20, uint64_t{700} << 10}) {
    ImageDisk kept;
    ImageDisk reopened({.budget_bytes = budget, .reopen = true});
    for (size_t i = 0; i < image.size(); ++i) {
      const LayerCapture a = kept.apply(image[i]);
      const LayerCapture b = reopened.apply(image[i]);
      ASSERT_TRUE(a.calls == b.calls) << "layer " << i + 1 << ", budget " << budget;
    }
  }
}

TEST_P(RandomImage, NeitherBudgetNorThePiecesOfTheStreamChangeAByte) {
  const auto image = random_image(GetParam());
  ImageDisk large;
  ImageDisk small({.budget_bytes = 700 << 10});
  ImageDisk pieces({.piece_bytes = 1000});
  for (size_t i = 0; i < image.size(); ++i) {
    const LayerCapture expected = large.apply(image[i]);
    ASSERT_TRUE(small.apply(image[i]).calls == expected.calls) << "layer " << i + 1;
    ASSERT_TRUE(pieces.apply(image[i]).blocks == expected.blocks) << "layer " << i + 1;
  }
}

TEST_P(RandomImage, HoldsWhatItsLayersSayAndPassesTheChecker) {
  RandomLayers layers(GetParam());
  ImageDisk disk;
  for (int i = 0; i < kLayers; ++i) {
    disk.apply(layers.next(40));
    std::map<std::string, char> found = {{"", 'd'}};
    for (const auto& [path, text] : disk.listing()) found[path] = letter_of(text);
    ASSERT_EQ(found, layers.types()) << "layer " << i + 1;
  }
  EXPECT_EQ(disk.complaints(), "");
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomImage, testing::Range(uint64_t{1}, uint64_t{11}),
                         [](const auto& seed) { return "Seed" + std::to_string(seed.param); });

}  // namespace
}  // namespace obd::blockfs
