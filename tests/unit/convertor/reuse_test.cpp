// What is found in the database, or the cache, is taken, and only if it is what would have been made.

#include <gmock/gmock.h>

#include <map>
#include <thread>

#include "tests/support/random_choice.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/farm.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
using test::TarBuilder;

/// Layers that build on one another: each removes, replaces and adds.
SourceLayer layer(int number) {
  const std::string name = std::to_string(number);
  return {TarBuilder()
              .directory("d")
              .file("d/" + name,
                    std::string(static_cast<size_t>(5000 + 3000 * number), static_cast<char>('a' + number)))
              .file("d/.wh." + std::to_string((number + 1) % 5), "")
              .file("shared", name)
              .end()
              .bytes(),
          {}};
}

std::vector<SourceLayer> layers(const std::vector<int>& numbers) {
  std::vector<SourceLayer> all;
  for (const int number : numbers) all.push_back(layer(number));
  return all;
}

class ReuseTest : public testing::TestWithParam<MemoryKind> {
 protected:
  std::string add(const std::vector<int>& numbers) {
    std::string tag = "image";
    for (const int number : numbers) tag += std::to_string(number);
    source_.add_image(layers(numbers), tag);
    return tag;
  }
  /// What a conversion gives that finds nothing.
  Digest cold(const std::string& reference, const ConvertOptions& options = {}) {
    return Farm(source_, GetParam()).convert(reference, options).root.digest;
  }
  static size_t reused(const ConvertResult& result) {
    size_t count = 0;
    for (const ConvertedImage& image : result.images) {
      for (const ConvertedLayer& one : image.layers) count += one.reused;
    }
    return count;
  }

  LayoutImages source_;
  Farm farm_{source_, GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Of, ReuseTest, testing::Values(MemoryKind::kDatabase, MemoryKind::kCache), name_of);

TEST_P(ReuseTest, AnImageThatWasConvertedCostsATag) {
  const std::string tag = add({0, 1, 2});
  const ConvertResult first = farm_.convert(tag);
  EXPECT_EQ(first.reuse.layers, 0u);
  EXPECT_EQ(farm_.rows(dedupdb::Table::kLayers).size(), 3u);
  EXPECT_EQ(farm_.rows(dedupdb::Table::kManifests).size(), 1u);
  const ConvertResult second = farm_.convert(tag);
  EXPECT_EQ(second.root.digest, first.root.digest);
  EXPECT_EQ(second.reuse.manifests, 1u);
  EXPECT_TRUE(second.images.at(0).reused);
  EXPECT_EQ(first.root.digest, cold(tag));
}

TEST_P(ReuseTest, LayersBelowANewOneAreReused) {
  farm_.convert(add({0, 1, 2}));
  const std::string tag = add({0, 1, 3});
  const ConvertResult result = farm_.convert(tag);
  EXPECT_EQ(result.reuse.layers, 2u);
  EXPECT_EQ(reused(result), 2u);
  EXPECT_EQ(result.root.digest, cold(tag));
}

TEST_P(ReuseTest, WhoClaimsTheDiffIdsOfOthersGetsNothingOfTheirs) {
  const std::vector<SourceLayer> theirs = layers({0, 1});
  farm_.convert(add({0, 1}));
  std::vector<SourceLayer> mine = layers({2, 3});
  for (size_t i = 0; i < mine.size(); ++i) mine[i].diff_id = Digest::of(test::to_text(theirs[i].tar));
  source_.add_image(mine, "claim");
  EXPECT_THROW(farm_.convert("claim"), DataError);
  // Nor does it help to know the digests of layers that the source does not have.
  LayoutImages poor;
  const Descriptor image = source_.add_image(theirs, "image");
  const std::string manifest = source_.manifest("image");
  const ImageManifest parsed = parse_manifest({image.media_type, manifest, image.digest});
  poor.add_blob(parsed.config.media_type, test::to_bytes(source_.blob(parsed.config.digest)));
  poor.add_manifest(image.media_type, manifest, "image");
  farm_.forget_manifests();
  const auto records = farm_.memory().open();
  test::TemporaryDirectory work;
  EXPECT_THROW(convertor::convert({.source = poor,
                                   .target = farm_.target(),
                                   .work_directory = work.path(),
                                   .reference = "image",
                                   .records = records.get()}),
               Error);
}

TEST_P(ReuseTest, AnImageThatWasFoundIsWhole) {
  const std::string tag = add({0, 1});
  const ConvertResult first = farm_.convert(tag);
  const Digest config =
      parse_manifest({first.root.media_type, farm_.target().manifest("out"), first.root.digest})
          .config.digest;
  fs::remove(farm_.target().blob_path(config));
  const ConvertResult second = farm_.convert(tag);
  EXPECT_EQ(second.root.digest, first.root.digest);
  EXPECT_EQ(second.reuse.manifests, 1u);
  EXPECT_EQ(Digest::of(farm_.target().blob(config)), config);
}

TEST_P(ReuseTest, WhatIsToBeKeptIsKeptOfReusedLayersToo) {
  const std::string tag = add({0, 1});
  farm_.convert(tag);
  test::TemporaryDirectory work;
  const auto records = farm_.memory().open();
  const ConvertResult result = convertor::convert({.source = source_,
                                                   .target = farm_.target(),
                                                   .work_directory = work.path(),
                                                   .reference = tag,
                                                   .options = {.reserve = true, .dump_manifest = true},
                                                   .records = records.get()});
  EXPECT_EQ(reused(result), 2u);
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(work.path())) files += entry.is_regular_file();
  EXPECT_EQ(files, 4u);  // manifest, config, two layers
}

TEST_P(ReuseTest, AnySubsetOfTheLayersGivesTheSameImage) {
  const std::string tag = add({0, 1, 2, 3});
  const ConvertResult first = farm_.convert(tag);
  const auto all = farm_.rows(dedupdb::Table::kLayers);
  ASSERT_EQ(all.size(), 4u);
  for (unsigned mask = 0; mask < 16; ++mask) {
    farm_.forget_manifests();
    for (size_t i = 0; i < all.size(); ++i) {
      farm_.memory().remove(all[i]);
      if (mask & (1U << i))
        farm_.put(all[i], Digest::parse(all[i].digest), static_cast<uint64_t>(all[i].size));
    }
    EXPECT_EQ(farm_.convert(tag).root.digest, first.root.digest) << "subset " << mask;
  }
}

TEST_P(ReuseTest, OtherOptionsFindNothing) {
  const std::string tag = add({0, 1});
  farm_.convert(tag);
  const std::vector<ConvertOptions> others = {{.vsize_gib = 2},
                                              {.zfile = {.algorithm = blockfs::Algorithm::kZstd}},
                                              {.zfile = {.block_bytes = 8192}}};
  for (const ConvertOptions& other : others) {
    const ConvertResult result = farm_.convert(tag, other);
    EXPECT_EQ(reused(result), 0u);
    EXPECT_EQ(result.root.digest, cold(tag, other));
  }
  const ConvertResult oci = farm_.convert(tag, {.oci = true});
  EXPECT_EQ(reused(oci), 2u) << "the media type is no part of a layer";
  EXPECT_FALSE(oci.images.at(0).reused);
  EXPECT_EQ(oci.root.digest, cold(tag, {.oci = true}));
}

TEST_P(ReuseTest, RowsThatLieAreRemovedAndNothingWrongIsTaken) {
  const std::string tag = add({0, 1, 2});
  const Digest expected = farm_.convert(tag).root.digest;
  farm_.convert(add({3, 4}));
  farm_.convert(tag, {.vsize_gib = 2});
  const auto all = farm_.rows(dedupdb::Table::kLayers);
  ASSERT_EQ(all.size(), 8u);
  for (const dedupdb::Row& row : all) {
    for (const dedupdb::Row& other : all) {  // right key, any other blob: another layer, parent or disk size
      farm_.forget_manifests();
      farm_.put(row, Digest::parse(other.digest), static_cast<uint64_t>(other.size));
      ASSERT_EQ(farm_.convert(tag).root.digest, expected);
      farm_.put(row, Digest::parse(row.digest), static_cast<uint64_t>(row.size));
    }
    farm_.forget_manifests();
    farm_.put(row, Digest::parse(row.digest), static_cast<uint64_t>(row.size) + 512);
    ASSERT_EQ(farm_.convert(tag).root.digest, expected);
    farm_.put(row, Digest::of("nothing has this digest"), 4096);
    farm_.forget_manifests();
    ASSERT_EQ(farm_.convert(tag).root.digest, expected);
    farm_.put(row, Digest::parse(row.digest), static_cast<uint64_t>(row.size));
  }
}

TEST_P(ReuseTest, AManifestRowThatLiesIsRemoved) {
  const std::string tag = add({0, 1});
  const ConvertResult first = farm_.convert(tag);
  const ConvertResult other = farm_.convert(add({0, 2}));
  for (const dedupdb::Row& row : farm_.rows(dedupdb::Table::kManifests))
    farm_.put(row, other.root.digest, other.root.size);
  const ConvertResult again = farm_.convert(tag);
  EXPECT_EQ(again.root.digest, first.root.digest);
  EXPECT_EQ(again.reuse.manifests, 0u);
  EXPECT_GE(again.reuse.stale_rows, 1u);
  EXPECT_EQ(farm_.convert(tag).reuse.manifests, 1u) << "the right row is back";
}

TEST_P(ReuseTest, ABlobThatIsGoneOrCutOffIsMadeAnew) {
  const std::string tag = add({0, 1, 2});
  const ConvertResult first = farm_.convert(tag);
  for (const ConvertedLayer& victim : first.images.at(0).layers) {
    const fs::path path = farm_.target().blob_path(victim.converted.digest);
    fs::remove(path);
    EXPECT_EQ(farm_.convert(tag).root.digest, first.root.digest);
    EXPECT_EQ(fs::file_size(path), victim.converted.size);
    fs::resize_file(path, victim.converted.size / 2);
    EXPECT_EQ(farm_.convert(tag).root.digest, first.root.digest);
    EXPECT_EQ(fs::file_size(path), victim.converted.size);
  }
}

TEST_P(ReuseTest, NothingIsWrittenWithoutUpload) {
  const std::string tag = add({0, 1});
  const ConvertResult result = farm_.convert(tag, {.upload = false});
  EXPECT_TRUE(farm_.rows(dedupdb::Table::kLayers).empty());
  EXPECT_TRUE(farm_.rows(dedupdb::Table::kManifests).empty());
  EXPECT_EQ(result.root.digest, cold(tag));
}

/// A store that is out of reach.
class Broken final : public dedupdb::RecordStore {
 public:
  using Place = dedupdb::Place;
  using Key = dedupdb::Key;
  using Text = std::string;
  using Stop = std::stop_token;
  Text name() const override { return "broken"; }
  std::vector<dedupdb::LayerRecord> find_layers(const Place&, const Key&, Stop) override { fail(); }
  void put_layer(const Place&, const Key&, const Digest&, uint64_t, Stop) override { fail(); }
  void remove_layer(const Place&, const Key&, const Digest&, Stop) override { fail(); }
  std::vector<dedupdb::ManifestRecord> find_manifests(const Place&, const Key&, const Text&, Stop) override {
    fail();
  }
  void put_manifest(const Place&, const Key&, const dedupdb::ManifestRecord&, Stop) override { fail(); }
  void remove_manifest(const Place&, const Key&, const Text&, const Digest&, Stop) override { fail(); }
  std::unique_ptr<dedupdb::Lease> acquire(const Text&, bool, Stop) override { fail(); }

 private:
  [[noreturn]] static void fail() { throw DbError("the store is out of reach"); }
};

TEST_P(ReuseTest, AnOutageIsNoMissButIsDoneWithoutUnlessRequired) {
  const std::string tag = add({0, 1});
  Broken broken;
  const ConvertResult result = farm_.convert(broken, tag);
  EXPECT_EQ(result.root.digest, cold(tag));
  EXPECT_GE(result.reuse.failed_lookups, 1u);
  EXPECT_THROW(farm_.convert(broken, tag, {.require_db = true}), DbError);
}

TEST_P(ReuseTest, ConvertersAtOnceMakeEachLayerOnce) {
  const std::vector<std::vector<int>> images = {{0, 1, 2, 3}, {0, 1, 4}, {0, 2, 3}, {0, 1, 2, 4}};
  std::vector<std::string> tags;
  for (const auto& image : images) tags.push_back(add(image));
  std::atomic<size_t> made{0};
  const auto records = farm_.memory().open();
  {
    std::vector<std::jthread> threads;
    for (const std::string& tag : tags) {
      threads.emplace_back([&, tag] {
        const ConvertResult result = farm_.convert(*records, tag);
        made += result.images.at(0).layers.size() - reused(result);
      });
    }
  }
  EXPECT_EQ(made, 8u) << "0, 01, 012, 0123, 014, 02, 023, 0124";
}

/// Random images that share layers, converted with random options, in a farm where rows and blobs get lost or
/// lie at random.
TEST_P(ReuseTest, NoMixOfRowsGivesAWrongImage) {
  test::RandomChoice random;
  SCOPED_TRACE(random.trace());
  const std::vector<ConvertOptions> all_options = {{},
                                                   {.vsize_gib = 2},
                                                   {.zfile = {.algorithm = blockfs::Algorithm::kZstd}},
                                                   {.oci = true},
                                                   {.oci = true, .referrer = true}};
  std::map<std::pair<std::string, size_t>, Digest> expected;
  for (int round = 0; round < 25; ++round) {
    const size_t way = random.below(2) == 0 ? 0 : random.below(all_options.size());
    const ConvertOptions& options = all_options[way];
    std::vector<int> numbers;
    for (size_t count = 1 + random.below(4); numbers.size() < count;)
      numbers.push_back(static_cast<int>(random.below(3)));
    const std::string tag = add(numbers);
    if (!expected.contains({tag, way})) expected[{tag, way}] = cold(tag, options);
    const auto all = farm_.rows(dedupdb::Table::kLayers);
    if (!all.empty()) {
      const dedupdb::Row& row = all[random.below(all.size())];
      const dedupdb::Row& other = all[random.below(all.size())];
      const auto size = static_cast<uint64_t>(row.size);
      switch (random.below(7)) {
        case 0:
          farm_.memory().remove(row);
          break;
        case 1:
          farm_.put(row, Digest::parse(other.digest), static_cast<uint64_t>(other.size));
          break;
        case 2:
          farm_.put(row, Digest::parse(row.digest), size / 2);
          break;
        case 4:
          farm_.put(row, Digest::parse(row.digest), size / 2 + 1'000'000);
          break;
        case 5:
          farm_.put(row, Digest::parse(row.digest), INT64_MAX);
          break;
        case 3:
          fs::remove(farm_.target().blob_path(Digest::parse(row.digest)));
          break;
        default:
          break;
      }
      if (random.below(2) == 0) farm_.forget_manifests();
    }
    ASSERT_EQ(farm_.convert(tag, options).root.digest, (expected[{tag, way}]))
        << tag << " in round " << round << ", options " << way;
  }
}

}  // namespace
}  // namespace obd::convertor
