// Pushing over HTTP to a registry that misbehaves.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;
using testing::HasSubstr;

class Push : public testing::TestWithParam<bool> {
 protected:
  Push()
      : fixture_({.relative_locations = GetParam()}),
        content_(noise(1'500'000)),
        digest_(Digest::of(content_)) {}

  FakeRegistry& registry() { return fixture_.registry; }
  Repository& repository() { return *fixture_.repository; }
  size_t count(const std::string& method, const std::string& path) {
    return registry().requests(method, path).size();
  }
  void expect_pushed() {
    EXPECT_EQ(push_text(repository(), content_), digest_);
    EXPECT_EQ(registry().blob(digest_.text()), content_);
    EXPECT_EQ(registry().open_uploads(), 0u);
  }

  HttpFixture fixture_;
  const std::string content_;
  const Digest digest_;
};

TEST_P(Push, SpoolGoesInOneStreamAndIsNamedAtItsEnd) {
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 1u);
  ASSERT_EQ(count("PATCH", "/uploads/"), 1u);
  ASSERT_EQ(count("PUT", "/uploads/"), 1u);
  EXPECT_EQ(registry().requests("PATCH", "")[0].body_bytes, content_.size());
  EXPECT_EQ(registry().requests("PUT", "")[0].body_bytes, 0u);
  EXPECT_THAT(registry().requests("PUT", "")[0].query, HasSubstr("_state=s3cret-state&digest=sha256"));
}

TEST_P(Push, WhatIsThereIsNotSentAgain) {
  expect_pushed();
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 1u);
  EXPECT_EQ(count("PATCH", "/uploads/"), 1u);
}

TEST_P(Push, SmallContentGoesInOneRequestAndOnlyOnce) {
  repository().push_bytes("config", {});
  repository().push_bytes("config", {});
  EXPECT_EQ(registry().blob(Digest::of("config").text()), "config");
  EXPECT_EQ(count("PATCH", ""), 0u);
  EXPECT_EQ(count("PUT", ""), 1u);
}

TEST_P(Push, RegistryThatRefusesPiecesGetsTheBlobWhole) {
  for (const int status : {404, 405, 416, 501}) {
    HttpFixture fixture({.relative_locations = GetParam()});
    fixture.registry.inject("PATCH", "", {.status = status}, 100);
    EXPECT_EQ(push_text(*fixture.repository, content_), digest_);
    EXPECT_EQ(push_text(*fixture.repository, "another"), Digest::of("another"));
    EXPECT_EQ(fixture.registry.blob(digest_.text()), content_) << status;
    EXPECT_EQ(fixture.registry.requests("PATCH", "").size(), 1u) << "it is not asked again";
    EXPECT_EQ(fixture.registry.open_uploads(), 0u);
  }
}

TEST_P(Push, GoesOnWhereTheUploadBroke) {
  registry().inject("PATCH", "", {.kind = Fault::Kind::kPartial, .status = 502, .bytes = 600'000});
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 1u);
  ASSERT_EQ(count("PATCH", ""), 2u);
  EXPECT_EQ(registry().requests("PATCH", "")[1].header("content-range"),
            fmt::format("600000-{}", content_.size() - 1));
}

TEST_P(Push, IsTriedAsLongAsTheRegistryGetsMoreOfIt) {
  registry().inject("PATCH", "", {.kind = Fault::Kind::kPartial, .status = 502, .bytes = 100'000}, 8);
  expect_pushed();
  EXPECT_EQ(count("PATCH", ""), 9u);
}

TEST_P(Push, WhatTheRegistryDoesNotKeepIsNoProgress) {
  registry().inject("PATCH", "", {.kind = Fault::Kind::kPartial, .status = 502, .bytes = 100'000});
  registry().inject("PATCH", "", {.kind = Fault::Kind::kPartial, .status = 502, .bytes = 0}, 100);
  EXPECT_THROW(push_text(repository(), content_), NetworkError);
  EXPECT_EQ(count("PATCH", ""), 4u);
}

TEST_P(Push, AsksForTheSessionUntilTheRegistryIsBack) {
  registry().inject("PATCH", "", {.kind = Fault::Kind::kPartial, .status = 502, .bytes = 600'000});
  registry().inject("GET", "/uploads/", {.status = 503});
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 1u);
  EXPECT_EQ(count("PATCH", ""), 2u);
}

TEST_P(Push, SessionThatTheRegistryHasForgottenIsBegunAnew) {
  registry().inject("PATCH", "", {.status = 502});
  registry().inject("GET", "/uploads/", {.status = 404});
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 2u);
}

TEST_P(Push, StartsAnewWhereNothingArrived) {
  registry().inject("PATCH", "", {.status = 503});
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 2u);
  EXPECT_EQ(count("DELETE", "/uploads/"), 1u);
}

TEST_P(Push, LostAnswerToTheLastRequestIsNoFailure) {
  registry().inject("PUT", "/uploads/", {.kind = Fault::Kind::kAfterwards, .status = 502});
  expect_pushed();
  EXPECT_EQ(count("PATCH", ""), 1u);
}

TEST_P(Push, UploadIsKeptWhileNobodyTellsWhetherItEnded) {
  registry().inject("PUT", "/uploads/", {.status = 503});
  registry().inject("HEAD", "/blobs/", {.status = 503});
  expect_pushed();
  EXPECT_EQ(count("PATCH", ""), 1u);
  EXPECT_EQ(count("PUT", "/uploads/"), 2u);
}

TEST_P(Push, WhatARefusalToTellIfABlobIsThereLeavesOpen) {
  for (const int status : {400, 403, 405, 501}) {
    HttpFixture fixture(
        {.authorization = basic_authorization("user", "pa55word"), .relative_locations = GetParam()},
        {.credential = Credential{"user", "pa55word"}});
    EXPECT_FALSE(find_manifest(*fixture.repository, "missing", {})) << "logged in";
    fixture.registry.inject("HEAD", "/blobs/", {.status = status}, 100);
    const BlobId blob = id_of("config");
    EXPECT_FALSE(fixture.repository->has_blob(blob, {})) << status;
    fixture.repository->push_bytes("config", {});
    EXPECT_TRUE(fixture.repository->has_blob(blob, {})) << status << ": by GET";
    fixture.registry.inject("GET", "/blobs/", {.status = status}, 100);
    EXPECT_FALSE(fixture.repository->has_blob(blob, {})) << status;
    EXPECT_EQ(fixture.repository->push_bytes("config", {}), blob.digest);
    fixture.registry.inject("POST", "", {.status = 401}, 100);
    EXPECT_THROW(fixture.repository->push_bytes("config", {}), AuthError);
  }
}

TEST_P(Push, StorageThatRefusesHeadIsAskedByGet) {
  FakeRegistry storage;
  storage.put_blob(digest_.text(), content_);
  storage.inject("HEAD", "", {.status = 403}, 100);
  registry().redirect("", "/blobs/",
                      fmt::format("http://{}/v2/x/blobs/{}", storage.authority(), digest_.text()));
  EXPECT_TRUE(repository().has_blob(id_of(content_), {}));
}

TEST_P(Push, EveryRequestMayFailOnce) {
  for (const char* method : {"POST", "PATCH", "PUT"}) registry().inject(method, "", {.status = 503});
  expect_pushed();
  EXPECT_GE(registry().requests().size(), 5u);
}

TEST_P(Push, FailedUploadIsCancelled) {
  registry().inject("PATCH", "", {.status = 500}, 100);
  EXPECT_THROW(push_text(repository(), content_), NetworkError);
  EXPECT_EQ(registry().open_uploads(), 0u);
  EXPECT_EQ(count("POST", "/uploads/"), 3u) << "the number of tries";
}

TEST_P(Push, ForbiddenUploadIsCancelledAndNotTriedAgain) {
  registry().inject("PATCH", "",
                    {.status = 403, .body = R"({"errors":[{"code":"DENIED","message":"quota"}]})"}, 100);
  EXPECT_THAT(message_of<AuthError>([&] { push_text(repository(), content_); }), HasSubstr("DENIED: quota"));
  EXPECT_EQ(registry().open_uploads(), 0u);
  EXPECT_EQ(count("PATCH", ""), 1u);
}

TEST_P(Push, StoppedUploadIsCancelled) {
  RetryPolicy patient = quick_retries();
  patient.first_delay = patient.max_delay = std::chrono::milliseconds(3'600'000);
  HttpRepository slow(
      parse_repository_name(registry().authority() + "/acme/app"),
      {.client = {.plain_http = true, .retry = patient}, .work_directory = fixture_.work.path()});
  registry().inject("PATCH", "", {.kind = Fault::Kind::kPartial, .status = 503, .bytes = 1000});
  std::stop_source source;
  std::jthread stopper([&] {
    while (count("PATCH", "/uploads/") == 0) std::this_thread::yield();
    source.request_stop();
  });
  EXPECT_THROW(push_text(slow, content_, source.get_token()), Cancelled);
  EXPECT_EQ(registry().open_uploads(), 0u);
  EXPECT_FALSE(registry().blob(digest_.text()));
}

TEST_P(Push, ManifestGoesToItsTagOrToItsDigest) {
  const std::string type(media_type::kOciManifest);
  const Digest digest = repository().push_manifest("1.0", type, sample_manifest(), {});
  repository().push_manifest(std::nullopt, type, sample_manifest("b"), {});
  EXPECT_EQ(registry().manifest("1.0"), sample_manifest());
  EXPECT_EQ(count("PUT", "/manifests/" + Digest::of(sample_manifest("b")).text()), 1u);
  EXPECT_EQ(registry().requests("PUT", "/manifests/1.0")[0].header("content-type"), type);
  EXPECT_EQ(digest, Digest::of(sample_manifest()));
}

TEST_P(Push, ManifestThatWasStoredOtherwiseIsNoticed) {
  registry().inject("PUT", "/manifests/",
                    {.status = 201, .headers = {{"Docker-Content-Digest", Digest::of("other").text()}}});
  EXPECT_THROW(repository().push_manifest("t", std::string(media_type::kOciManifest), sample_manifest(), {}),
               DataError);
}

TEST_P(Push, MediaTypeCannotSmuggleAHeader) {
  EXPECT_THROW(repository().push_manifest("t", "a/b\r\nX-Evil: 1", sample_manifest(), {}), DataError);
  EXPECT_EQ(registry().requests().size(), 0u);
}

TEST_P(Push, DamagedBlobThatTheRegistryKeepsIsAnError) {
  for (const std::string& kept : {content_.substr(0, 1000), std::string()}) {
    registry().on_request([&](const auto& request) {
      if (request.method == "HEAD" || request.method == "GET") registry().put_blob(digest_.text(), kept);
    });
    EXPECT_THAT(message_of<DataError>([&] { push_text(repository(), content_); }),
                testing::AllOf(HasSubstr(digest_.text()), HasSubstr("is damaged in")));
  }
}

TEST_P(Push, RegistryThatIsWrongAboutSizesInHeadIsAskedByGet) {
  registry().inject("HEAD", digest_.text(),
                    {.kind = Fault::Kind::kHeaders, .headers = {{"Content-Length", "7"}}}, 100);
  expect_pushed();
  expect_pushed();
  EXPECT_EQ(count("POST", "/uploads/"), 1u);
}

TEST_P(Push, UploadWithoutALocationIsAnError) {
  registry().inject("POST", "", {.status = 202}, 100);
  EXPECT_THAT(message_of<NetworkError>([&] { push_text(repository(), content_); }),
              HasSubstr("without a Location"));
}

TEST_P(Push, UploadThatIsSentElsewhereCarriesNoCredential) {
  FakeRegistry storage;
  HttpFixture fixture({.authorization = basic_authorization("user", "pa55word")},
                      {.credential = Credential{"user", "pa55word"}});
  fixture.registry.inject(
      "POST", "/uploads/",
      {.status = 202,
       .headers = {{"Location",
                    fmt::format("http://{}/v2/x/blobs/uploads/1?signature=s3cret", storage.authority())}}},
      100);
  const std::string message = message_of<NetworkError>([&] { push_text(*fixture.repository, "content"); });
  EXPECT_THAT(message, testing::Not(HasSubstr("s3cret")));
  ASSERT_FALSE(storage.requests().empty());
  for (const auto& request : storage.requests()) EXPECT_EQ(request.header("authorization"), "");
}

INSTANTIATE_TEST_SUITE_P(Locations, Push, testing::Bool(),
                         [](const auto& instance) { return instance.param ? "Relative" : "Absolute"; });

}  // namespace
}  // namespace obd::registry::test
