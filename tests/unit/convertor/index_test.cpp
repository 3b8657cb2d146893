// Platforms, merged indexes and referrers.

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/json.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

using Json = nlohmann::ordered_json;
using test::TarBuilder;
using testing::HasSubstr;

std::vector<SourceLayer> one_layer(const std::string& content) {
  return {{TarBuilder().file("a", content).end().bytes(), {}}};
}

class Indexes : public testing::Test {
 protected:
  Indexes() {
    amd64_ = source_.add_image(one_layer("amd64"), "single", {.os = "linux", .architecture = "amd64"});
    arm64_ = source_.add_image(one_layer("arm64"), {}, {.os = "linux", .architecture = "arm64"});
    index_ = source_.add_index({amd64_, arm64_}, "index");
  }
  ConvertResult convert(const std::string& reference, ConvertOptions options) {
    return convertor::convert({.source = source_,
                               .target = target_,
                               .work_directory = work_.path(),
                               .reference = reference,
                               .options = std::move(options)});
  }
  /// An index of that text; parsed entries may be made of to_entry().
  void add_index(const std::vector<Json>& entries, const std::string& tag) {
    const Json index = {
        {"schemaVersion", 2}, {"mediaType", registry::media_type::kOciIndex}, {"manifests", entries}};
    source_.add_manifest(registry::media_type::kOciIndex, index.dump(), tag);
  }
  static Json to_entry(const Descriptor& image) {
    return {{"mediaType", image.media_type}, {"digest", image.digest.text()}, {"size", image.size}};
  }
  template <class Expected>
  std::string failure(const std::string& reference, const ConvertOptions& options = {}) {
    try {
      convert(reference, options);
    } catch (const Expected& error) {
      return error.what();
    }
    ADD_FAILURE() << "it was converted";
    return {};
  }
  Json result() { return test::json_of(target_.manifest("out")); }

  test::TemporaryDirectory work_;
  LayoutImages source_;
  LayoutImages target_;
  Descriptor amd64_;
  Descriptor arm64_;
  Descriptor index_;
};

TEST_F(Indexes, OnlyThePlatformsThatAreAskedForAreConverted) {
  const ConvertResult converted = convert("index", {.platforms = {Platform::parse("linux/arm64")}});
  ASSERT_EQ(converted.images.size(), 1u);
  EXPECT_EQ(converted.images[0].source_digest, arm64_.digest);
  const Json index = result();
  ASSERT_EQ(index["manifests"].size(), 1u);
  EXPECT_EQ(index["manifests"][0]["platform"]["architecture"], "arm64");
}

TEST_F(Indexes, APlatformThatIsNotThereIsAnErrorThatSaysWhatIs) {
  try {
    convert("index", {.platforms = {Platform::parse("linux/arm64"), Platform::parse("linux/s390x")}});
    FAIL() << "it was converted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("linux/s390x"), HasSubstr("linux/amd64"), HasSubstr("linux/arm64")));
  }
  EXPECT_THROW(convert("single", {.platforms = {Platform::parse("linux/arm64")}}), UsageError);
  EXPECT_EQ(convert("single", {.platforms = {Platform::parse("linux/amd64")}}).images.size(), 1u);
}

TEST_F(Indexes, PlatformsAreParsedAndMatched) {
  EXPECT_TRUE(
      Platform::parse("linux/arm64").matches({.os = "linux", .architecture = "arm64", .variant = "v8"}));
  EXPECT_TRUE(Platform::parse("linux/arm64/v8").matches({.os = "linux", .architecture = "arm64"}));
  EXPECT_FALSE(
      Platform::parse("linux/arm/v7").matches({.os = "linux", .architecture = "arm", .variant = "v6"}));
  EXPECT_FALSE(Platform::parse("linux/amd64").matches({.os = "windows", .architecture = "amd64"}));
  for (const char* bad :
       {"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v1/x", "Linux/amd64", "linux//v8"}) {
    EXPECT_THROW(Platform::parse(bad), UsageError) << bad;
  }
}

TEST_F(Indexes, ImagesForOtherPlatformsNeedNotBeThere) {
  Json absent = to_entry({.media_type = arm64_.media_type, .digest = Digest::of("absent"), .size = 7});
  absent["platform"] = {{"os", "linux"}, {"architecture", "arm64"}};
  Json there = to_entry(amd64_);
  there["platform"] = {{"os", "linux"}, {"architecture", "amd64"}};
  add_index({absent, there}, "sparse");
  EXPECT_EQ(convert("sparse", {.platforms = {Platform::parse("linux/amd64")}}).images.size(), 1u);
  EXPECT_THROW(convert("sparse", {}), Error);
}

TEST_F(Indexes, WhatIsNamedOftenIsConvertedAndPushedOnce) {
  Descriptor index = index_;
  for (int level = 0; level < 3; ++level) {
    index = source_.add_index(std::vector<Descriptor>(200, index), "deep");
  }
  EXPECT_EQ(convert("deep", {}).images.size(), 2u);
  EXPECT_EQ(result()["manifests"].size(), 200u);
  EXPECT_EQ(convert("deep", {.platforms = {Platform::parse("linux/arm64")}}).images.size(), 1u);
  convert("deep", {.oci = true, .merge_index = true});
  EXPECT_EQ(result()["manifests"].size(), 202u);
}

TEST_F(Indexes, ManifestsThatAreTooLargeInAllAreRefused) {
  std::vector<Json> entries;
  for (int number = 0; number < 10; ++number) {
    const Json padded = {{"schemaVersion", 2},
                         {"config", {{"mediaType", "a/b"}, {"digest", Digest::of("c").text()}, {"size", 1}}},
                         {"layers", Json::array()},
                         {"number", number},
                         {"padding", std::string(4'000'000, 'x')}};
    entries.push_back(to_entry(source_.add_manifest(registry::media_type::kOciManifest, padded.dump(), {})));
  }
  add_index(entries, "large");
  EXPECT_THAT(failure<DataError>("large"), HasSubstr("32 MiB"));
}

TEST_F(Indexes, AnEntryOfAnotherSizeIsRefused) {
  Json entry = to_entry(amd64_);
  entry["size"] = amd64_.size + 1;
  add_index({entry}, "lying");
  EXPECT_THAT(failure<DataError>("lying"),
              testing::AllOf(HasSubstr(amd64_.digest.text()), HasSubstr(std::to_string(amd64_.size + 1))));
}

TEST_F(Indexes, WhatIsConvertedAlreadyIsNotConvertedAgain) {
  const auto again = [&](const std::string& from, const ConvertOptions& options) {
    return convertor::convert({.source = target_,
                               .target = target_,
                               .work_directory = work_.path(),
                               .reference = from,
                               .options = options});
  };
  convert("single", {.oci = true});
  EXPECT_THROW(again("out", {.oci = true}), UsageError);
  convert("index", {.oci = true});
  EXPECT_THROW(again("out", {.oci = true}), UsageError);
  // As a job does that runs each night, from a tag to the same tag.
  convert("index", {.oci = true, .merge_index = true});
  const Json first = result();
  const ConvertResult second = again("out", {.oci = true, .merge_index = true});
  EXPECT_EQ(second.skipped.size(), 2u);
  EXPECT_EQ(result(), first);
}

TEST_F(Indexes, AMergedIndexListsSourcesFirstAndBringsThemAlong) {
  const ConvertResult converted = convert("index", {.oci = true, .merge_index = true});
  const Json index = result();
  ASSERT_EQ(index["manifests"].size(), 4u);
  EXPECT_EQ(index["manifests"][0]["digest"], amd64_.digest.text());
  EXPECT_EQ(index["manifests"][1]["digest"], arm64_.digest.text());
  for (size_t i = 0; i < 2; ++i) {
    const Json& entry = index["manifests"][2 + i];
    EXPECT_EQ(entry["digest"], converted.images[i].manifest.digest.text());
    EXPECT_EQ(entry["platform"]["architecture"], i == 0 ? "amd64" : "arm64");
    EXPECT_EQ(entry["artifactType"], "application/vnd.containerd.overlaybd.native.v1+json");
  }
  // The source's images are whole in the target.
  const Json image = test::json_of(target_.manifest(amd64_.digest.text()));
  const auto blob = Digest::parse(image["layers"][0]["digest"].get<std::string>());
  EXPECT_EQ(target_.blob(blob), source_.blob(blob));
}

TEST_F(Indexes, ASingleImageIsMergedToo) {
  convert("single", {.oci = true, .merge_index = true});
  const Json index = result();
  ASSERT_EQ(index["manifests"].size(), 2u);
  EXPECT_EQ(index["manifests"][0]["digest"], amd64_.digest.text());
  EXPECT_EQ(index["manifests"][0]["platform"]["os"], "linux");
  EXPECT_EQ(index["manifests"][1]["platform"]["architecture"], "amd64");
}

TEST_F(Indexes, ReferrersNameTheirSource) {
  convert("index", {.oci = true, .referrer = true});
  const Json index = result();
  EXPECT_EQ(index["subject"]["digest"], index_.digest.text());
  EXPECT_EQ(index["artifactType"], "application/vnd.containerd.overlaybd.native.v1+json");
  const Json image = test::json_of(target_.manifest(index["manifests"][0]["digest"].get<std::string>()));
  EXPECT_EQ(image["subject"]["digest"], amd64_.digest.text());
  EXPECT_EQ(image["subject"]["mediaType"], registry::media_type::kOciManifest);
  EXPECT_EQ(image["subject"]["size"], amd64_.size);
  EXPECT_EQ(image["artifactType"], "application/vnd.containerd.overlaybd.native.v1+json");
  const auto referrers = target_.repository().list_referrers(amd64_.digest, {});
  ASSERT_EQ(referrers.size(), 1u);
  EXPECT_EQ(referrers[0].artifact_type, "application/vnd.containerd.overlaybd.native.v1+json");
}

}  // namespace
}  // namespace obd::convertor
