// A farm that shares a database and a registry of several repositories: what one has is mounted into another.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <map>

#include "registry/http_repository.h"
#include "tests/support/fake_registry.h"
#include "tests/support/random_choice.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/farm.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using test::FakeRegistry;
using test::TarBuilder;

const std::vector<std::string> kRepositories = {"acme/one", "acme/two", "acme/three"};

SourceLayer layer(size_t number) {
  const std::string name = std::to_string(number);
  return {TarBuilder()
              .directory("d")
              .file("d/" + name, std::string(4000 + 2000 * number, static_cast<char>('a' + number)))
              .file("d/.wh." + std::to_string((number + 1) % 4), "")
              .end()
              .bytes(),
          {}};
}

class SharedRegistry : public testing::Test {
 protected:
  SharedRegistry() {
    // A base layer is what any conversion makes of its lowest layer.
    source_.add_image({layer(9)}, "base");
    LayoutImages made;
    const ConvertResult base = convertor::convert(
        {.source = source_, .target = made, .work_directory = work_.path() / "w", .reference = "base"});
    base_ = work_.path() / "base.obd";
    fs::copy(made.blob_path(base.images.at(0).layers.at(0).converted.digest), base_);
  }

  std::string add(const std::vector<size_t>& numbers) {
    std::string tag = "image";
    std::vector<SourceLayer> layers;
    for (const size_t number : numbers) {
      tag += std::to_string(number);
      layers.push_back(layer(number));
    }
    source_.add_image(layers, tag);
    return tag;
  }
  ConvertResult convert(const std::string& reference, const std::string& repository,
                        ConvertOptions options = {}) {
    registry::HttpRepository target(
        registry::parse_repository_name(fmt::format("{}/{}", registry_.authority(), repository)),
        {.client = {.plain_http = true,
                    .retry = {.tries = 2, .first_delay = milliseconds(1), .settle = milliseconds(1)}},
         .work_directory = work_.path(),
         .spool_memory_bytes = 1 << 20});
    const auto records = memory_->open();
    blockfs::WorkerPool pool(2);
    ProgressBoard progress;
    options.vsize_gib = options.vsize_gib == ConvertOptions().vsize_gib ? 1 : options.vsize_gib;
    options.work_directory = work_.path() / "work";
    const Workshop workshop{.source = source_.repository(),
                            .target = target,
                            .pool = pool,
                            .progress = progress,
                            .options = std::move(options),
                            .records = records.get()};
    return convert_reference(workshop, reference, "out", {});
  }
  /// What a conversion gives that finds nothing.
  Digest cold(const std::string& reference, const ConvertOptions& options) {
    LayoutImages target;
    return convertor::convert({.source = source_,
                               .target = target,
                               .work_directory = work_.path() / "cold",
                               .reference = reference,
                               .options = options})
        .root.digest;
  }
  /// Whether all that the tag leads to is there.
  void expect_whole(const std::string& repository) {
    const auto bytes = registry_.manifest("out", repository);
    ASSERT_TRUE(bytes);
    const ImageManifest manifest =
        parse_manifest({std::string(registry::media_type::kOciManifest), *bytes, Digest::of(*bytes)});
    std::vector<Descriptor> parts = manifest.layers;
    parts.push_back(manifest.config);
    for (const Descriptor& part : parts) {
      const auto blob = registry_.blob(part.digest.text(), repository);
      ASSERT_TRUE(blob) << part.digest.text();
      EXPECT_EQ(Digest::of(*blob), part.digest);
    }
  }

  FakeRegistry registry_{{.separate_repositories = true, .checks_manifests = true}};
  LayoutImages source_;
  test::TemporaryDirectory work_;
  std::unique_ptr<Memory> memory_ = make_database_memory(work_.path());
  fs::path base_;
};

TEST_F(SharedRegistry, AnImageOfAnotherRepositoryIsMountedWhole) {
  const std::string tag = add({0, 1, 2});
  const ConvertResult first = convert(tag, "acme/one");
  const size_t before = registry_.requests().size();
  const ConvertResult other = convert(tag, "acme/two");
  EXPECT_EQ(other.root.digest, first.root.digest);
  EXPECT_EQ(other.reuse.manifests, 1u);
  EXPECT_TRUE(registry_.requests("PATCH", "acme/two").empty());
  EXPECT_LE(registry_.requests().size() - before, 10u);
  expect_whole("acme/two");
  EXPECT_EQ(memory_->rows().size(), 8u) << "three layers and a manifest in each";
}

TEST_F(SharedRegistry, WhatCannotBeMountedIsMade) {
  const std::string tag = add({0, 1, 2});
  const ConvertResult first = convert(tag, "acme/one");
  registry_.remove_blob(first.images.at(0).layers.at(1).converted.digest.text(), "acme/one");
  const ConvertResult other = convert(tag, "acme/two");
  EXPECT_EQ(other.root.digest, first.root.digest);
  EXPECT_EQ(other.reuse.manifests, 0u);
  EXPECT_EQ(other.reuse.layers, 1u);
  expect_whole("acme/two");
}

TEST_F(SharedRegistry, WhatTheSourceLacksIsNotMounted) {
  const std::string tag = add({0, 1});
  convert(tag, "acme/one");
  const auto image = parse_manifest(source_.repository().pull_manifest(tag, {}));
  fs::remove(source_.blob_path(image.layers.at(1).digest));
  EXPECT_THROW(convert(tag, "acme/two"), Error);
  EXPECT_EQ(registry_.requests("POST", "acme/two").size(), 1u) << "the layer below, which the source has";
  fs::remove(source_.blob_path(image.layers.at(0).digest));
  EXPECT_THROW(convert(tag, "acme/three"), Error);
  EXPECT_TRUE(registry_.requests("POST", "acme/three").empty());
}

TEST_F(SharedRegistry, ManifestThatIsRefusedIsMadeAnew) {
  const std::string tag = add({0, 1, 2});
  const ConvertResult first = convert(tag, "acme/one");
  registry_.inject("PUT", "/acme/two/manifests/", {.status = 404});
  const ConvertResult other = convert(tag, "acme/two");
  EXPECT_EQ(other.root.digest, first.root.digest);
  EXPECT_EQ(other.reuse.manifests, 0u);
  EXPECT_EQ(other.reuse.layers, 3u);
  EXPECT_EQ(other.reuse.stale_rows, 0u);
  EXPECT_EQ(memory_->rows().size(), 8u);
}

TEST_F(SharedRegistry, RepositoryThatCannotBeMountedDoesNotHideTheNext) {
  const std::string tag = add({0, 1});
  const ConvertResult first = convert(tag, "acme/two");
  for (dedupdb::Row row : memory_->rows()) {
    row.place.repo = "acme/gone";
    memory_->put(row);
  }
  const ConvertResult other = convert(tag, "acme/three");
  EXPECT_EQ(other.root.digest, first.root.digest);
  EXPECT_EQ(other.reuse.manifests, 1u);
}

TEST_F(SharedRegistry, DamagedLayerIsNamedAndNotPassedOn) {
  const ConvertResult first = convert(add({0, 1}), "acme/one");
  const std::string digest = first.images.at(0).layers.at(0).converted.digest.text();
  const std::string good = registry_.blob(digest, "acme/one").value();
  const std::string tag = add({0, 2});
  const Digest expected = cold(tag, {});
  const auto expect_named = [&](size_t first_byte, size_t last_byte) {
    std::string bad = good;
    for (size_t i = first_byte; i < last_byte; ++i) bad[i] = static_cast<char>(bad[i] ^ 0x55);
    registry_.put_blob(digest, bad, "acme/one");
    try {
      convert(tag, "acme/one");
      ADD_FAILURE() << "bytes " << first_byte << " to " << last_byte;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(),
                  testing::AllOf(testing::HasSubstr(digest), testing::HasSubstr("is damaged in")));
    }
  };
  expect_named(1536, good.size() / 2);                // where it is read
  expect_named(good.size() - 3000, good.size() - 1);  // where it says what it is
  registry_.remove_blob(digest, "acme/one");
  EXPECT_EQ(convert(tag, "acme/one").root.digest, expected);
  expect_whole("acme/one");
}

TEST_F(SharedRegistry, ManifestOfWhatIsMadeOtherwiseTodayIsNotTaken) {
  const std::string tag = add({0, 1});
  const ConvertResult first = convert(tag, "acme/one");
  const ConvertResult other = convert(add({0, 2}), "acme/one");
  for (dedupdb::Row row : memory_->rows()) {
    if (row.table != dedupdb::Table::kManifests) continue;
    row.digest = other.root.digest.text();
    memory_->put(row);
  }
  const ConvertResult again = convert(tag, "acme/two");
  EXPECT_EQ(again.root.digest, first.root.digest);
  EXPECT_EQ(again.reuse.manifests, 0u);
  EXPECT_EQ(again.reuse.layers, 2u);
}

/// Random images that share layers, converted with random options into random repositories, where rows and
/// blobs get lost, are cut off, or lie at random.
TEST_F(SharedRegistry, NoMixOfRowsAndBlobsGivesAWrongImage) {
  test::RandomChoice random;
  SCOPED_TRACE(random.trace());
  const std::vector<ConvertOptions> all_options = {{},
                                                   {.mkfs = false, .base_layer = base_},
                                                   {.vsize_gib = 2},
                                                   {.zfile = {.algorithm = blockfs::Algorithm::kZstd}},
                                                   {.oci = true, .referrer = true}};
  std::map<std::pair<std::string, size_t>, Digest> expected;
  const auto disturb = [&](const std::vector<dedupdb::Row>& rows) {
    dedupdb::Row row = rows[random.below(rows.size())];
    const dedupdb::Row& other = rows[random.below(rows.size())];
    switch (random.below(8)) {
      case 0:
        return memory_->remove(row);
      case 1:  // right key, wrong blob
        row.digest = other.digest;
        row.size = other.size;
        return memory_->put(row);
      case 2:  // another size
        row.size = random.below(2) == 0 ? row.size / 2 : row.size + 1'000'000;
        return memory_->put(row);
      case 3:  // a repository that does not have it
        row.place.repo = kRepositories[random.below(kRepositories.size())];
        return memory_->put(row);
      case 4:
        return registry_.remove_blob(row.digest, row.place.repo);
      case 5:  // cut off
        if (const auto content = registry_.blob(row.digest, row.place.repo)) {
          registry_.put_blob(row.digest, content->substr(0, content->size() / 2), row.place.repo);
        }
        return;
      default:
        return;
    }
  };
  for (int round = 0; round < 40; ++round) {
    const size_t way = random.below(2) == 0 ? 0 : random.below(all_options.size());
    std::vector<size_t> numbers;
    for (size_t count = 1 + random.below(4); numbers.size() < count;) numbers.push_back(random.below(3));
    const std::string tag = add(numbers);
    const std::string& repository = kRepositories[random.below(kRepositories.size())];
    if (!expected.contains({tag, way})) expected[{tag, way}] = cold(tag, all_options[way]);
    const auto rows = memory_->rows();
    for (size_t times = rows.empty() ? 0 : random.below(4); times > 0; --times) disturb(rows);
    ASSERT_EQ(convert(tag, repository, all_options[way]).root.digest, (expected[{tag, way}]))
        << tag << " in round " << round << ", options " << way << ", " << repository;
    expect_whole(repository);
  }
}

}  // namespace
}  // namespace obd::convertor
