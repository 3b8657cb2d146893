#include "registry/manifest_form.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "registry/registry.h"

namespace obd::registry {
namespace {

std::string with_type(std::string_view type, const std::string& rest) {
  return fmt::format(R"({{"mediaType":"{}",{}}})", type, rest);
}

const std::string kLayers = R"("config":{},"layers":[])";
const std::string kManifests = R"("manifests":[])";

TEST(ManifestMediaType, IsTheDeclaredOne) {
  EXPECT_EQ(manifest_media_type("{" + kLayers + "}", media_type::kDockerManifest, "x"),
            media_type::kDockerManifest);
  EXPECT_EQ(manifest_media_type("{" + kManifests + "}",
                                fmt::format("{}; charset=utf-8", media_type::kOciIndex), "x"),
            media_type::kOciIndex);
  EXPECT_EQ(manifest_media_type("{}", "application/vnd.other+json", "x"), "application/vnd.other+json");
}

TEST(ManifestMediaType, IsFoundInTheDocumentWhereNobodyDeclaredIt) {
  for (const char* declared :
       {"", "application/json", "text/plain; charset=utf-8", "application/octet-stream"}) {
    EXPECT_EQ(manifest_media_type(with_type(media_type::kDockerIndex, kManifests), declared, "x"),
              media_type::kDockerIndex);
    EXPECT_EQ(manifest_media_type("{" + kLayers + "}", declared, "x"), media_type::kOciManifest);
    EXPECT_EQ(manifest_media_type("{" + kManifests + "}", declared, "x"), media_type::kOciIndex);
  }
}

TEST(ManifestMediaType, ContradictionsAreRefused) {
  const auto refuse = [](const std::string& bytes, std::string_view declared) {
    EXPECT_THROW(manifest_media_type(bytes, declared, "x"), DataError) << bytes;
  };
  refuse(with_type(media_type::kOciIndex, kManifests), media_type::kOciManifest);
  refuse(with_type(media_type::kOciIndex, kLayers), "");
  refuse("{" + kLayers + "}", media_type::kOciIndex);
  refuse("{" + kManifests + "}", media_type::kDockerManifest);
  refuse("{" + kLayers + "," + kManifests + "}", media_type::kOciManifest);
  refuse("{}", "");
  refuse("7", media_type::kOciManifest);
}

}  // namespace
}  // namespace obd::registry
