// A tag is replaced only where it names what it is said to name.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::RecordedRequest;

const std::string kType(media_type::kOciManifest);

bool replace(Repository& repository, const std::string& tag, const std::optional<Manifest>& expected,
             const std::string& marker) {
  return repository.replace_manifest(tag, expected, kType, sample_manifest(marker), {});
}

/// Layouts lock, archives look.
class ReplaceManifest : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Repository> open() const {
    return open_repository(fmt::format("{}:{}", GetParam(), (directory_.path() / "images").string()),
                           {.work_directory = directory_.path() / "work"});
  }
  TemporaryDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(In, ReplaceManifest, testing::Values("oci", "oci-archive"), [](const auto& each) {
  return std::string(each.param) == "oci" ? "Layout" : "OciArchive";
});

TEST_P(ReplaceManifest, NeedsTheTagToNameWhatWasExpected) {
  const auto repository = open();
  EXPECT_FALSE(find_manifest(*repository, "tag", {}));
  EXPECT_TRUE(replace(*repository, "tag", std::nullopt, "a"));
  EXPECT_FALSE(replace(*repository, "tag", std::nullopt, "b")) << "there is something by now";
  const auto first = find_manifest(*repository, "tag", {});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->bytes, sample_manifest("a"));
  EXPECT_TRUE(replace(*repository, "tag", first, "b"));
  EXPECT_FALSE(replace(*repository, "tag", first, "c"));
  EXPECT_EQ(find_manifest(*repository, "tag", {})->bytes, sample_manifest("b"));
}

TEST(ReplaceManifestInLayout, OneOfManyAtOnceSucceeds) {
  TemporaryDirectory directory;
  const std::string where = "oci:" + (directory.path() / "images").string();
  for (int round = 0; round < 5; ++round) {
    const auto before = find_manifest(*open_repository(where, {}), "tag", {});
    std::atomic<int> replaced = 0;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&, i] {
          replaced += replace(*open_repository(where, {}), "tag", before, fmt::format("{} {}", round, i));
        });
      }
    }
    EXPECT_EQ(replaced, 1);
  }
}

TEST(ReplaceManifestInRegistry, SaysWhichStateOfTheTagItMeans) {
  HttpFixture fixture;
  const std::string tag = "sha256-x";  // the fake registry sends ETags and heeds If-Match for such tags
  fixture.repository->push_manifest(tag, kType, sample_manifest("a"), {});
  const auto first = find_manifest(*fixture.repository, tag, {});
  ASSERT_TRUE(first && first->etag);
  EXPECT_TRUE(replace(*fixture.repository, tag, first, "b"));
  EXPECT_FALSE(replace(*fixture.repository, tag, first, "c"));
  EXPECT_EQ(fixture.registry.manifest(tag), sample_manifest("b"));
  const auto requests = fixture.registry.requests("PUT", tag);
  ASSERT_EQ(requests.size(), 3u) << "412 is an answer, not tried again";
  EXPECT_EQ(requests[0].header("if-match"), "") << "an ordinary push replaces what there is";
  EXPECT_EQ(requests[1].header("if-match"), *first->etag);
}

TEST(ReplaceManifestInRegistry, OutagesAreNotTakenForAMissingManifest) {
  HttpFixture fixture;
  fixture.registry.inject("GET", "manifests/tag", {.status = 500}, 3);
  EXPECT_THROW(find_manifest(*fixture.repository, "tag", {}), NetworkError);
  EXPECT_FALSE(find_manifest(*fixture.repository, "tag", {}));
}

}  // namespace
}  // namespace obd::registry::test
