// What is found in the database is taken, and only if it is what would have been made.

#include <gmock/gmock.h>

#include <map>
#include <random>
#include <thread>

#include "convertor/tag_converter.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
using test::TarBuilder;

/// Layers that build on one another: each removes, replaces and adds.
SourceLayer layer(int number) {
  const std::string name = std::to_string(number);
  return {TarBuilder()
              .directory("d")
              .file("d/" + name, std::string(static_cast<size_t>(5000 + 3000 * number), static_cast<char>('a' + number)))
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

/// A database, and a target whose content it describes.
class Farm {
 public:
  explicit Farm(LayoutImages& source) : source_(source), db_(open(work_.path() / "obd.db")) {}

  static std::unique_ptr<dedupdb::DedupDb> open(const fs::path& path) {
    auto db = dedupdb::open_dedup_db({.type = "sqlite", .location = path.string()});
    db->create_tables({});
    return db;
  }
  ConvertResult convert(const std::string& reference, ConvertOptions options = {}) {
    return convert(*db_, reference, std::move(options));
  }
  ConvertResult convert(dedupdb::DedupDb& db, const std::string& reference, ConvertOptions options = {}) {
    if (options.vsize_gib == 64) options.vsize_gib = 1;
    options.work_directory = work_.path() / "work";
    blockfs::WorkerPool pool(2);
    ProgressBoard progress;
    const Workshop workshop{.source = source_.repository(),
                            .target = target_.repository(),
                            .pool = pool,
                            .progress = progress,
                            .options = options,
                            .records = &db};
    return convert_reference(workshop, reference, "out", {});
  }
  dedupdb::DedupDb& db() { return *db_; }
  LayoutImages& target() { return target_; }
  std::vector<dedupdb::Row> rows(dedupdb::Table table) {
    std::vector<dedupdb::Row> rows;
    db_->list({}, [&](const dedupdb::Row& row) { if (row.table == table) rows.push_back(row); }, {});
    return rows;
  }
  /// Makes a row of layers say something else.
  void put(const dedupdb::Row& row, const Digest& digest, uint64_t size) {
    db_->put_layer(row.place, key_of(row), digest, size, {});
  }
  void remove(const dedupdb::Row& row) {
    if (row.table == dedupdb::Table::kLayers) {
      db_->remove_layer(row.place, key_of(row), Digest::parse(row.digest), {});
    } else {
      db_->remove_manifest(row.place, key_of(row), row.media_type, Digest::parse(row.digest), {});
    }
  }
  void forget_manifests() {
    for (const dedupdb::Row& row : rows(dedupdb::Table::kManifests)) remove(row);
  }

 private:
  static dedupdb::Key key_of(const dedupdb::Row& row) {
    const size_t plus = row.key.find('+');
    return {Digest::parse(row.key.substr(0, plus)), row.key.substr(plus + 1)};
  }

  LayoutImages& source_;
  test::TemporaryDirectory work_;
  LayoutImages target_;
  std::unique_ptr<dedupdb::DedupDb> db_;
};

class ReuseTest : public testing::Test {
 protected:
  std::string add(const std::vector<int>& numbers) {
    std::string tag = "image";
    for (const int number : numbers) tag += std::to_string(number);
    source_.add_image(layers(numbers), tag);
    return tag;
  }
  /// What a conversion gives that finds nothing.
  Digest cold(const std::string& reference, const ConvertOptions& options = {}) {
    return Farm(source_).convert(reference, options).root.digest;
  }
  static size_t reused(const ConvertResult& result) {
    size_t count = 0;
    for (const ConvertedImage& image : result.images) {
      for (const ConvertedLayer& one : image.layers) count += one.reused;
    }
    return count;
  }

  LayoutImages source_;
  Farm farm_{source_};
};

TEST_F(ReuseTest, AnImageThatWasConvertedCostsATag) {
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

TEST_F(ReuseTest, LayersBelowANewOneAreReused) {
  farm_.convert(add({0, 1, 2}));
  const std::string tag = add({0, 1, 3});
  const ConvertResult result = farm_.convert(tag);
  EXPECT_EQ(result.reuse.layers, 2u);
  EXPECT_EQ(reused(result), 2u);
  EXPECT_EQ(result.root.digest, cold(tag));
}

TEST_F(ReuseTest, AnySubsetOfTheLayersGivesTheSameImage) {
  const std::string tag = add({0, 1, 2, 3});
  const ConvertResult first = farm_.convert(tag);
  const auto all = farm_.rows(dedupdb::Table::kLayers);
  ASSERT_EQ(all.size(), 4u);
  for (unsigned mask = 0; mask < 16; ++mask) {
    farm_.forget_manifests();
    for (size_t i = 0; i < all.size(); ++i) {
      farm_.remove(all[i]);
      if (mask & (1U << i)) farm_.put(all[i], Digest::parse(all[i].digest), static_cast<uint64_t>(all[i].size));
    }
    EXPECT_EQ(farm_.convert(tag).root.digest, first.root.digest) << "subset " << mask;
  }
}

TEST_F(ReuseTest, OtherOptionsFindNothing) {
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

TEST_F(ReuseTest, RowsThatLieAreRemovedAndNothingWrongIsTaken) {
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

TEST_F(ReuseTest, AManifestRowThatLiesIsRemoved) {
  const std::string tag = add({0, 1});
  const ConvertResult first = farm_.convert(tag);
  const ConvertResult other = farm_.convert(add({0, 2}));
  for (const dedupdb::Row& row : farm_.rows(dedupdb::Table::kManifests)) {
    const size_t plus = row.key.find('+');
    farm_.db().put_manifest(row.place, {Digest::parse(row.key.substr(0, plus)), row.key.substr(plus + 1)},
                            {.repo = {}, .digest = other.root.digest, .size = other.root.size,
                             .media_type = other.root.media_type}, {});
  }
  const ConvertResult again = farm_.convert(tag);
  EXPECT_EQ(again.root.digest, first.root.digest);
  EXPECT_EQ(again.reuse.manifests, 0u);
  EXPECT_GE(again.reuse.stale_rows, 1u);
  EXPECT_EQ(farm_.convert(tag).reuse.manifests, 1u) << "the right row is back";
}

TEST_F(ReuseTest, ABlobThatIsGoneOrCutOffIsMadeAnew) {
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

TEST_F(ReuseTest, NothingIsWrittenWithoutUpload) {
  const std::string tag = add({0, 1});
  const ConvertResult result = farm_.convert(tag, {.upload = false});
  EXPECT_TRUE(farm_.rows(dedupdb::Table::kLayers).empty());
  EXPECT_TRUE(farm_.rows(dedupdb::Table::kManifests).empty());
  EXPECT_EQ(result.root.digest, cold(tag));
}

/// A database that is out of reach.
class Broken final : public dedupdb::DedupDb {
 public:
  std::string name() const override { return "broken"; }
  std::vector<dedupdb::LayerRecord> find_layers(const dedupdb::Place&, const dedupdb::Key&, std::stop_token) override { fail(); }
  void put_layer(const dedupdb::Place&, const dedupdb::Key&, const Digest&, uint64_t, std::stop_token) override { fail(); }
  void remove_layer(const dedupdb::Place&, const dedupdb::Key&, const Digest&, std::stop_token) override { fail(); }
  std::vector<dedupdb::ManifestRecord> find_manifests(const dedupdb::Place&, const dedupdb::Key&, const std::string&,
                                                      std::stop_token) override { fail(); }
  void put_manifest(const dedupdb::Place&, const dedupdb::Key&, const dedupdb::ManifestRecord&, std::stop_token) override { fail(); }
  void remove_manifest(const dedupdb::Place&, const dedupdb::Key&, const std::string&, const Digest&, std::stop_token) override { fail(); }
  std::unique_ptr<dedupdb::Lease> acquire(const std::string&, bool, std::stop_token) override { fail(); }
  void create_tables(std::stop_token) override { fail(); }
  dedupdb::Status status(std::stop_token) override { fail(); }
  void list(const dedupdb::RowFilter&, const std::function<void(const dedupdb::Row&)>&, std::stop_token) override { fail(); }
  dedupdb::PruneTotals prune(const dedupdb::RowFilter&, std::stop_token) override { fail(); }

 private:
  [[noreturn]] static void fail() { throw DbError("the database is out of reach"); }
};

TEST_F(ReuseTest, AnOutageIsNoMissButIsDoneWithoutUnlessRequired) {
  const std::string tag = add({0, 1});
  Broken broken;
  const ConvertResult result = farm_.convert(broken, tag);
  EXPECT_EQ(result.root.digest, cold(tag));
  EXPECT_GE(result.reuse.failed_lookups, 1u);
  EXPECT_THROW(farm_.convert(broken, tag, {.require_db = true}), DbError);
}

TEST_F(ReuseTest, ConvertersAtOnceMakeEachLayerOnce) {
  const std::vector<std::vector<int>> images = {{0, 1, 2, 3}, {0, 1, 4}, {0, 2, 3}, {0, 1, 2, 4}};
  std::vector<std::string> tags;
  for (const auto& image : images) tags.push_back(add(image));
  std::atomic<size_t> made{0};
  {
    std::vector<std::jthread> threads;
    for (const std::string& tag : tags) {
      threads.emplace_back([&, tag] {
        const ConvertResult result = farm_.convert(tag);
        made += result.images.at(0).layers.size() - reused(result);
      });
    }
  }
  EXPECT_EQ(made, 8u) << "0, 01, 012, 0123, 014, 02, 023, 0124";
}

/// Random images that share layers, in a farm where rows and blobs get lost or lie at random.
TEST_F(ReuseTest, NoMixOfRowsGivesAWrongImage) {
  const auto seed = static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto below = [&](size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random); };
  std::map<std::string, Digest> expected;
  for (int round = 0; round < 25; ++round) {
    std::vector<int> numbers;
    for (size_t count = 1 + below(4); numbers.size() < count;) numbers.push_back(static_cast<int>(below(3)));
    const std::string tag = add(numbers);
    if (!expected.contains(tag)) expected[tag] = cold(tag);
    const auto all = farm_.rows(dedupdb::Table::kLayers);
    if (!all.empty()) {
      const dedupdb::Row& row = all[below(all.size())];
      const dedupdb::Row& other = all[below(all.size())];
      switch (below(5)) {
        case 0: farm_.remove(row); break;
        case 1: farm_.put(row, Digest::parse(other.digest), static_cast<uint64_t>(other.size)); break;
        case 2: farm_.put(row, Digest::parse(row.digest), static_cast<uint64_t>(row.size) / 2); break;
        case 3: fs::remove(farm_.target().blob_path(Digest::parse(row.digest))); break;
        default: break;
      }
      if (below(2) == 0) farm_.forget_manifests();
    }
    ASSERT_EQ(farm_.convert(tag).root.digest, expected[tag]) << tag << " in round " << round;
  }
}

}  // namespace
}  // namespace obd::convertor
