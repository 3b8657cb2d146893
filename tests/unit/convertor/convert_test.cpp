#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "blockfs/ext4/metadata_store.h"
#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "tests/support/compression.h"
#include "tests/support/json.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/blockfs/ext4/tree_listing.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

using Json = nlohmann::ordered_json;
using test::Bytes;
using test::TarBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

const Bytes& lower() {
  static const Bytes tar =
      TarBuilder().directory("etc").file("etc/a", std::string(10000, 'a')).file("etc/b", "b").end().bytes();
  return tar;
}
const Bytes& upper() {
  static const Bytes tar = TarBuilder().file("etc/.wh.a", "").file("etc/c", "c").end().bytes();
  return tar;
}
const std::vector<SourceLayer>& two_layers() {
  static const std::vector<SourceLayer> layers = {{lower(), {}}, {upper(), {}}};
  return layers;
}

class Convert : public testing::Test {
 protected:
  struct Settings {
    ConvertOptions options = {};
    size_t threads = 2;
  };

  ConvertResult convert(const std::string& reference) { return convert(reference, {}); }
  ConvertResult convert(const std::string& reference, Settings settings, std::stop_token stop = {}) {
    return convertor::convert({.source = source_,
                               .target = target_,
                               .work_directory = work_.path() / "work",
                               .reference = reference,
                               .options = std::move(settings.options),
                               .threads = settings.threads,
                               .stop = std::move(stop)});
  }
  template <class Expected>
  std::string failure(const std::string& reference, const Settings& settings = {},
                      std::stop_token stop = {}) {
    try {
      convert(reference, settings, std::move(stop));
    } catch (const Expected& error) {
      return error.what();
    }
    ADD_FAILURE() << "it was converted";
    return {};
  }
  /// The tree in a converted image.
  blockfs::TreeListing tree_of(const std::string& bytes) {
    std::vector<std::shared_ptr<const blockfs::LsmtLayer>> layers;
    const Json manifest = test::json_of(bytes);
    for (const Json& layer : manifest["layers"]) {
      const registry::BlobId id{Digest::parse(layer["digest"].get<std::string>()),
                                layer["size"].get<uint64_t>()};
      layers.push_back(blockfs::open_layer_blob(target_.repository().open_blob(id)).layer);
    }
    const blockfs::LayerStack stack(layers);
    blockfs::MetadataStore store(stack, 64 << 20);
    return blockfs::list_tree(*blockfs::Filesystem::open(store));
  }
  static std::vector<Digest> layer_digests(const ConvertResult& result) {
    std::vector<Digest> digests;
    for (const ConvertedLayer& layer : result.images.at(0).layers) digests.push_back(layer.converted.digest);
    return digests;
  }

  test::TemporaryDirectory work_;
  LayoutImages source_;
  LayoutImages target_;
};

TEST_F(Convert, ImageBecomesAStackOfBlocksWithItsTree) {
  const Descriptor image = source_.add_image(two_layers(), "in");
  const ConvertResult result = convert("in");
  EXPECT_EQ(result.source_digest, image.digest);
  EXPECT_FALSE(result.is_index);
  ASSERT_EQ(result.images.size(), 1u);
  ASSERT_EQ(result.images[0].layers.size(), 2u);
  EXPECT_EQ(result.images[0].layers[0].applied.entries, 3u);
  const std::string manifest = target_.manifest("out");
  EXPECT_EQ(Digest::of(manifest), result.root.digest);
  EXPECT_THAT(tree_of(manifest),
              ElementsAre(Pair("etc", "d755"), Pair("etc/b", "f644"), Pair("etc/c", "f644")));
}

TEST_F(Convert, ManifestAndConfigTellOfTheBlobs) {
  source_.add_image(two_layers(), "in");
  for (const bool oci : {false, true}) {
    convert("in", {.options = {.oci = oci}});
    const Json manifest = test::json_of(target_.manifest("out"));
    EXPECT_EQ(manifest["mediaType"],
              oci ? registry::media_type::kOciManifest : registry::media_type::kDockerManifest);
    const Json config =
        test::json_of(target_.blob(Digest::parse(manifest["config"]["digest"].get<std::string>())));
    EXPECT_EQ(config["config"]["Env"][0], "A=1");
    ASSERT_EQ(config["rootfs"]["diff_ids"].size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      const Json& layer = manifest["layers"][i];
      EXPECT_EQ(layer["mediaType"],
                oci ? registry::media_type::kOciLayer : registry::media_type::kDockerLayer);
      EXPECT_EQ(config["rootfs"]["diff_ids"][i], layer["digest"]);
      EXPECT_EQ(layer["annotations"][annotation::kBlobDigest], layer["digest"]);
      EXPECT_EQ(layer["annotations"][annotation::kBlobSize], std::to_string(layer["size"].get<uint64_t>()));
    }
  }
}

TEST_F(Convert, BytesDependOnNeitherThreadsNorReopeningNorTheSourcesCompression) {
  source_.add_image(two_layers(), "gzip");
  source_.add_image({{lower(), test::zstd(lower())}, {upper(), upper()}}, "other");
  const auto expected = layer_digests(convert("gzip"));
  EXPECT_EQ(layer_digests(convert("gzip", {.threads = 1})), expected);
  EXPECT_EQ(layer_digests(convert("gzip", {.options = {.reopen_each_layer = true}})), expected);
  EXPECT_EQ(layer_digests(convert("gzip", {.options = {.metadata_budget_bytes = 2 << 20}})), expected);
  EXPECT_EQ(layer_digests(convert("other")), expected);
}

TEST_F(Convert, IndexKeepsItsPlatformsAndLosesItsAttestations) {
  const Descriptor amd = source_.add_image(two_layers());
  const Descriptor arm = source_.add_image({{upper(), {}}}, {}, {.os = "linux", .architecture = "arm64"});
  Descriptor attestation =
      source_.add_image({{lower(), {}}}, {}, {.os = "unknown", .architecture = "unknown"});
  attestation.annotations["vnd.docker.reference.type"] = "attestation-manifest";
  source_.add_index({amd, attestation, arm}, "in");
  const ConvertResult result = convert("in");
  EXPECT_TRUE(result.is_index);
  EXPECT_EQ(result.skipped, std::vector{attestation.digest});
  const Json index = test::json_of(target_.manifest("out"));
  ASSERT_EQ(index["manifests"].size(), 2u);
  EXPECT_EQ(index["manifests"][0]["platform"]["architecture"], "amd64");
  EXPECT_EQ(index["manifests"][1]["platform"]["architecture"], "arm64");
  for (const Json& entry : index["manifests"]) {
    const std::string manifest = target_.manifest(entry["digest"]);
    EXPECT_EQ(manifest.size(), entry["size"].get<size_t>());
    EXPECT_FALSE(tree_of(manifest).empty());
  }
}

TEST_F(Convert, ChildThatIsNamedTwiceIsConvertedOnce) {
  const Descriptor image = source_.add_image(two_layers());
  Descriptor again = image;
  again.platform = Platform{.os = "linux", .architecture = "386"};
  const Descriptor inner = source_.add_index({image});
  source_.add_index({image, again, inner}, "in");
  const ConvertResult result = convert("in");
  EXPECT_EQ(result.images.size(), 1u);
  const Json index = test::json_of(target_.manifest("out"));
  ASSERT_EQ(index["manifests"].size(), 3u);
  EXPECT_EQ(index["manifests"][0]["digest"], index["manifests"][1]["digest"]);
  EXPECT_EQ(test::json_of(target_.manifest(index["manifests"][2]["digest"]))["manifests"].size(), 1u);
}

TEST_F(Convert, IndexesNestedTooDeepOrWithoutImagesAreRefused) {
  Descriptor node = source_.add_image(two_layers());
  for (int i = 0; i < 5; ++i) node = source_.add_index({node}, "deep");
  EXPECT_THAT(failure<DataError>("deep"), HasSubstr("nested"));
  source_.add_index({}, "empty");
  EXPECT_THAT(failure<DataError>("empty"), HasSubstr("names no image"));
  EXPECT_TRUE(target_.files().empty());
}

TEST_F(Convert, FailureInTheSecondLayerLeavesNoFileAndNoTag) {
  Bytes cut = lower();
  cut.resize(1024 + 100);
  const Bytes bad_tar = TarBuilder().file("../x", "").end().bytes();
  const std::vector<SourceLayer> bad_layers = {{cut, {}},
                                               {bad_tar, {}},
                                               {upper(), {}, Digest::of("something else")},
                                               {upper(), test::to_bytes("\x1F\x8Bgarbage")}};
  for (const SourceLayer& bad : bad_layers) {
    source_.add_image({{lower(), {}}, bad, {upper(), {}}}, "in");
    EXPECT_THAT(failure<DataError>("in"), HasSubstr("layer 2 of 3"));
    EXPECT_THAT(target_.files(), testing::Not(testing::Contains(HasSubstr("sha256/"))));
    EXPECT_THROW(target_.manifest("out"), IoError);
  }
}

TEST_F(Convert, DamagedSourceBlobIsRefused) {
  const Descriptor image = source_.add_image(two_layers(), "in");
  const Json manifest = test::json_of(source_.manifest("in"));
  const Digest layer = Digest::parse(manifest["layers"][0]["digest"].get<std::string>());
  std::string blob = source_.blob(layer);
  blob[4] ^= 1;  // the time in the gzip header: the content is still right
  test::write_file(source_.blob_path(layer), blob);
  EXPECT_THAT(failure<DataError>("in"), HasSubstr("layer 1 of 2"));
  EXPECT_THROW(target_.manifest("out"), IoError);
}

TEST_F(Convert, ConfigThatDoesNotFitTheLayersIsRefused) {
  source_.add_image({}, "none");
  EXPECT_THAT(failure<DataError>("none"), HasSubstr("no layers"));
  source_.add_image(two_layers(), "in");
  Json manifest = test::json_of(source_.manifest("in"));
  manifest["layers"].erase(0);
  source_.add_manifest(registry::media_type::kOciManifest, manifest.dump(), "fewer");
  EXPECT_THAT(failure<DataError>("fewer"), HasSubstr("1 layers, but its config has 2 diff IDs"));
}

TEST_F(Convert, WithoutUploadNothingIsWrittenAndDigestsAreTheSame) {
  source_.add_image(two_layers(), "in");
  const ConvertResult dry = convert("in", {.options = {.upload = false}});
  EXPECT_TRUE(target_.files().empty());
  EXPECT_TRUE(!std::filesystem::exists(work_.path() / "work") ||
              std::filesystem::is_empty(work_.path() / "work"));
  EXPECT_EQ(convert("in").root.digest, dry.root.digest);
}

TEST_F(Convert, StopBeforeItStartsWritesNothing) {
  source_.add_image(two_layers(), "in");
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(convert("in", {}, stop.get_token()), Cancelled);
  EXPECT_TRUE(target_.files().empty());
}

TEST_F(Convert, SeparateBaseLayerLiesBelow) {
  source_.add_image({{Bytes(1024), {}}}, "empty");
  const ConvertResult empty = convert("empty");
  const auto base = target_.blob_path(layer_digests(empty).at(0));
  source_.add_image(two_layers(), "in");
  const ConvertResult result = convert("in", {.options = {.mkfs = false, .base_layer = base}});
  EXPECT_EQ(result.images[0].layers.size(), 2u) << "the base layer is none of the image's";
  const std::string manifest = target_.manifest("out");
  ASSERT_EQ(test::json_of(manifest)["layers"].size(), 3u);
  EXPECT_EQ(test::json_of(manifest)["layers"][0]["digest"], layer_digests(empty).at(0).text());
  EXPECT_EQ(tree_of(manifest).size(), 3u);
}

TEST_F(Convert, ReserveAndDumpKeepWhatWasMade) {
  source_.add_image(two_layers(), "in");
  const ConvertResult result =
      convert("in", {.options = {.upload = false, .reserve = true, .dump_manifest = true}});
  const auto kept = work_.path() / "work" / std::string(result.source_digest.brief());
  EXPECT_EQ(Digest::of(test::read_file(kept / "manifest.json")), result.root.digest);
  for (size_t i = 0; i < 2; ++i) {
    const Digest digest = layer_digests(result)[i];
    const std::string name = fmt::format("{:04}_{}.overlaybd.commit.tar", i + 1, digest.brief());
    EXPECT_EQ(Digest::of(test::read_file(kept / name)), digest);
  }
}

}  // namespace
}  // namespace obd::convertor
