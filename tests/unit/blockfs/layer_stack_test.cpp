#include "blockfs/layer_stack.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/unit/blockfs/blob_builder.h"

namespace obd::blockfs {
namespace {

using test::Bytes;

std::shared_ptr<const LsmtLayer> open(const Bytes& file) {
  return std::make_shared<LsmtLayer>(test::source_of(file));
}

std::string uuid(uint64_t number) {
  return fmt::format("{:08x}-0000-4000-8000-000000000000", number + 1);
}

TEST(LayerStack, ReadsLikeAFlatArrayHoweverManyLayersLieUpon) {
  constexpr size_t kDiskBytes = 2 << 20;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    LayerStack stack;
    Bytes disk(kDiskBytes);
    const uint64_t layers = 1 + random() % 8;
    for (uint64_t i = 0; i < layers; ++i) {
      ModelledLayer layer(disk, uuid(i), i == 0 ? "" : uuid(i - 1));
      layer.scribble(random, static_cast<int>(random() % 120));
      layer.finish();
      disk = layer.disk();
      stack.push(open(layer.file()));
      ASSERT_EQ(test::read_all(stack), disk) << "after layer " << i;
    }
    for (int i = 0; i < 200; ++i) {
      const size_t at = random() % disk.size();
      Bytes part(1 + random() % std::min<size_t>(disk.size() - at, 20'000));
      stack.read_at(at, part);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), disk.begin() + static_cast<ptrdiff_t>(at))) << at;
    }
    for (size_t i = 1; i < stack.extents().size(); ++i) {
      ASSERT_LE(stack.extents()[i - 1].entry.end(), stack.extents()[i].entry.sector);
    }
  }
}

TEST(LayerStack, ALayerThatNamesAnotherParentIsRefused) {
  ModelledLayer bottom(Bytes(1 << 20), uuid(0), "");
  bottom.finish();
  ModelledLayer stranger(Bytes(1 << 20), uuid(2), uuid(1));
  stranger.finish();
  LayerStack stack;
  stack.push(open(bottom.file()));
  EXPECT_THROW(stack.push(open(stranger.file())), DataError);
}

TEST(LayerStack, UuidsThatAreNotSetFitEverywhere) {
  ModelledLayer bottom(Bytes(1 << 20), "", "");
  bottom.finish();
  ModelledLayer upper(Bytes(1 << 20), uuid(2), uuid(1));
  upper.finish();
  LayerStack stack;
  stack.push(open(bottom.file()));
  EXPECT_NO_THROW(stack.push(open(upper.file())));
}

TEST(LayerStack, TheDiskIsAsLargeAsTheTopLayerSays) {
  ModelledLayer small(Bytes(1 << 20), uuid(0), "");
  small.finish();
  ModelledLayer large(Bytes(2 << 20), uuid(1), uuid(0));
  large.finish();
  EXPECT_EQ(LayerStack().size(), 0U);
  EXPECT_EQ(LayerStack({open(small.file()), open(large.file())}).size(), 2U << 20);
}

TEST(LayerStack, MoreLayersThanReadersAcceptAreRefused) {
  LayerStack stack;
  ModelledLayer layer(Bytes(1 << 20), "", "");
  layer.finish();
  for (size_t i = 0; i < LsmtHeader::kMaxLayers; ++i) stack.push(open(layer.file()));
  EXPECT_ANY_THROW(stack.push(open(layer.file())));
}

TEST(LayerStack, DataThatLiesInASourceTarCannotBeRead) {
  LsmtHeader header;
  header.virtual_bytes = 1 << 20;
  LayerStack stack;
  stack.push(std::make_shared<LsmtLayer>(test::source_of(Bytes(8192)), header,
                                         std::vector<LsmtEntry>{{8, 0, 8, false, 1}}));
  Bytes part(512);
  EXPECT_NO_THROW(stack.read_at(0, part));
  EXPECT_THROW(stack.read_at(8 * 512, part), DataError);
}

}  // namespace
}  // namespace obd::blockfs
