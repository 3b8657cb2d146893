// Blobs that need not move, and uploads that must go in chunks.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;
using testing::HasSubstr;

constexpr uint64_t kMib = 1 << 20;

class Mount : public testing::Test {
 protected:
  Mount() : content_(noise(100'000)), id_(id_of(content_)) {}

  FakeRegistry& registry() { return fixture_.registry; }
  Repository& repository() { return *fixture_.repository; }
  std::unique_ptr<Repository> other(const std::string& authority) {
    return std::make_unique<HttpRepository>(
        parse_repository_name(authority + "/acme/source"),
        HttpRepository::Options{.client = {.plain_http = true, .retry = quick_retries()},
                                .work_directory = fixture_.work.path(),
                                .spool_memory_bytes = 1 << 20});
  }

  HttpFixture fixture_;
  const std::string content_;
  const BlobId id_;
};

TEST_F(Mount, BlobOfAnotherRepositoryIsTakenOver) {
  registry().put_blob(id_.digest.text(), content_);
  EXPECT_TRUE(repository().mount_blob(id_, "acme/source", {}));
  ASSERT_EQ(registry().requests().size(), 1u);
  EXPECT_EQ(registry().requests()[0].path, "/v2/acme/app/blobs/uploads/");
  EXPECT_EQ(registry().requests()[0].query,
            fmt::format("mount=sha256%3a{}&from=acme%2fsource", id_.digest.hex()));
}

TEST_F(Mount, SessionThatIsOfferedInsteadIsCancelled) {
  EXPECT_FALSE(repository().mount_blob(id_, "acme/source", {}));
  EXPECT_EQ(registry().requests("DELETE", "/uploads/").size(), 1u);
  EXPECT_EQ(registry().open_uploads(), 0u);
}

TEST_F(Mount, RefusalIsNoFailure) {
  for (const int status : {400, 401, 403, 404, 405, 501}) {
    HttpFixture fixture;
    fixture.registry.inject("POST", "", {.status = status}, 100);
    EXPECT_FALSE(fixture.repository->mount_blob(id_, "acme/source", {})) << status;
  }
}

TEST_F(Mount, RegistryThatIsDownIsAFailure) {
  registry().inject("POST", "", {.status = 503}, 100);
  EXPECT_THROW(repository().mount_blob(id_, "acme/source", {}), NetworkError);
}

TEST_F(Mount, MountOfSomethingElseDoesNotCount) {
  registry().inject("POST", "",
                    {.status = 201, .headers = {{"Docker-Content-Digest", Digest::of("other").text()}}});
  EXPECT_FALSE(repository().mount_blob(id_, "acme/source", {}));
}

TEST_F(Mount, CopyMovesNothingThatIsThere) {
  registry().put_blob(id_.digest.text(), content_);
  copy_blob(*other(registry().authority()), repository(), id_, {});
  EXPECT_EQ(registry().requests().size(), 1u) << "HEAD";
}

TEST_F(Mount, CopyWithinARegistryIsAMount) {
  registry().put_blob(id_.digest.text(), content_);
  registry().inject("HEAD", "", {.status = 404});
  copy_blob(*other(registry().authority()), repository(), id_, {});
  EXPECT_EQ(registry().requests("GET", "").size(), 0u);
  EXPECT_EQ(registry().requests("PUT", "").size(), 0u);
}

TEST_F(Mount, CopyFromAnotherRegistryMovesTheBytes) {
  FakeRegistry far;
  far.put_blob(id_.digest.text(), content_);
  copy_blob(*other(far.authority()), repository(), id_, {});
  EXPECT_EQ(registry().blob(id_.digest.text()), content_);
  EXPECT_THAT(registry().requests("POST", "")[0].query, testing::Not(HasSubstr("mount")));
}

TEST_F(Mount, CopyWhereMountsAreUnknownMovesTheBytes) {
  HttpFixture fixture({.mounts = false});
  fixture.registry.put_blob(id_.digest.text(), content_);
  fixture.registry.inject("HEAD", "", {.status = 404}, 2);
  copy_blob(*other(fixture.registry.authority()), *fixture.repository, id_, {});
  EXPECT_EQ(fixture.registry.requests("PATCH", "").size(), 1u);
  EXPECT_EQ(fixture.registry.open_uploads(), 0u);
}

TEST_F(Mount, CopyOfDamagedBytesIsRefused) {
  FakeRegistry far;
  far.put_blob(id_.digest.text(), content_);
  far.inject("GET", "/blobs/", {.kind = Fault::Kind::kCorrupt}, 100);
  EXPECT_THROW(copy_blob(*other(far.authority()), repository(), id_, {}), DataError);
  EXPECT_FALSE(registry().blob(id_.digest.text()));
}

TEST_F(Mount, CopyToALayoutAndBack) {
  registry().put_blob(id_.digest.text(), content_);
  const auto layout = open_repository("oci:" + (fixture_.work.path() / "layout").string(), {});
  copy_blob(repository(), *layout, id_, {});
  EXPECT_EQ(pull_text(*layout, id_), content_);
  HttpFixture target;
  copy_blob(*layout, *target.repository, id_, {});
  EXPECT_EQ(target.registry.blob(id_.digest.text()), content_);
}

std::vector<uint64_t> patch_sizes(const FakeRegistry& registry) {
  std::vector<uint64_t> sizes;
  for (const auto& request : registry.requests("PATCH", "")) sizes.push_back(request.body_bytes);
  return sizes;
}

TEST(Chunks, RequestThatIsTooLargeIsHalvedAndThatIsRemembered) {
  HttpFixture fixture({.max_body_bytes = 8 * kMib});
  const std::string content = noise(21 * kMib);
  const Digest digest = Digest::of(content);
  EXPECT_EQ(push_text(*fixture.repository, content), digest);
  EXPECT_EQ(fixture.registry.blob(digest.text()), content);
  EXPECT_EQ(fixture.registry.open_uploads(), 0u) << "sessions that came to nothing are cancelled";
  const auto sizes = patch_sizes(fixture.registry);
  EXPECT_THAT(sizes, testing::ElementsAre(21 * kMib, 21 * kMib / 2, 21 * kMib / 4, 21 * kMib / 4,
                                          21 * kMib / 4, 21 * kMib / 4));
  EXPECT_EQ(fixture.registry.requests("PATCH", "").back().header("content-range"),
            fmt::format("{}-{}", 21 * kMib / 4 * 3, 21 * kMib - 1));
  const std::string next = noise(6 * kMib, 2);
  push_text(*fixture.repository, next);
  EXPECT_EQ(patch_sizes(fixture.registry).size(), sizes.size() + 2)
      << "the next blob begins with small chunks";
}

TEST(Chunks, NoChunkIsShorterThanTheRegistryWants) {
  HttpFixture fixture({.max_body_bytes = 8 * kMib, .min_chunk_bytes = 7 * kMib});
  const std::string content = noise(20 * kMib);
  push_text(*fixture.repository, content);
  EXPECT_EQ(fixture.registry.blob(Digest::of(content).text()), content);
  EXPECT_THAT(patch_sizes(fixture.registry),
              testing::ElementsAre(20 * kMib, 10 * kMib, 7 * kMib, 7 * kMib, 6 * kMib));
}

TEST(Chunks, GoOnWhereOneOfThemBroke) {
  HttpFixture fixture({.max_body_bytes = 6 * kMib});
  const std::string content = noise(12 * kMib);
  fixture.registry.inject("PATCH", "upload-2", {.kind = Fault::Kind::kPartial, .status = 502, .bytes = kMib});
  EXPECT_EQ(push_text(*fixture.repository, content), Digest::of(content));
  EXPECT_EQ(fixture.registry.blob(Digest::of(content).text()), content);
}

TEST(Chunks, WhatCannotBeMadeSmallerIsExplained) {
  HttpFixture fixture({.max_body_bytes = kMib});
  EXPECT_THAT(message_of<NetworkError>([&] { push_text(*fixture.repository, noise(12 * kMib)); }),
              HasSubstr("limits the size"));
  EXPECT_EQ(fixture.registry.open_uploads(), 0u);
}

TEST(Chunks, SessionThatIsLostMidwayIsBegunAnewAndPiecesStayInUse) {
  HttpFixture fixture({.max_body_bytes = 6 * kMib});
  push_text(*fixture.repository, noise(12 * kMib, 3));  // now it knows
  const std::string content = noise(12 * kMib);
  for (const char* method : {"PUT", "PATCH"}) {
    fixture.registry.inject(method, "/uploads/", {.status = 404});
    EXPECT_EQ(push_text(*fixture.repository, content + method), Digest::of(content + method)) << method;
  }
  EXPECT_EQ(fixture.registry.open_uploads(), 0u);
}

}  // namespace
}  // namespace obd::registry::test
