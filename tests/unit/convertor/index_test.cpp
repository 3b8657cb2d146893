// Platforms, merged indexes and referrers.

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

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
  Json result() { return Json::parse(target_.manifest("out")); }

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
  const Json image = Json::parse(target_.manifest(amd64_.digest.text()));
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
  const Json image = Json::parse(target_.manifest(index["manifests"][0]["digest"].get<std::string>()));
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
