// Pulling over HTTP from a registry that misbehaves.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;
using obd::test::RecordedRequest;
using testing::HasSubstr;
using testing::Not;

constexpr size_t kBlobBytes = 1'000'000;

class Pull : public testing::Test {
 protected:
  Pull() : content_(noise(kBlobBytes)), id_(id_of(content_)) {
    registry().put_blob(id_.digest.text(), content_);
  }

  FakeRegistry& registry() { return fixture_.registry; }
  Repository& repository() { return *fixture_.repository; }
  size_t gets() { return registry().requests("GET", "/blobs/").size(); }

  HttpFixture fixture_;
  const std::string content_;
  const BlobId id_;
};

TEST_F(Pull, GoesOnByRangeWhereTheConnectionBroke) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 400'000});
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 100'000});
  EXPECT_EQ(pull_text(repository(), id_), content_);
  const auto requests = registry().requests("GET", "/blobs/");
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].header("range"), "");
  EXPECT_EQ(requests[1].header("range"), fmt::format("bytes=400000-{}", kBlobBytes - 1));
  EXPECT_EQ(requests[2].header("range"), fmt::format("bytes=500000-{}", kBlobBytes - 1));
}

TEST_F(Pull, ProgressIsWhatCountsNotTheNumberOfFailures) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 100'000}, 9);
  EXPECT_EQ(pull_text(repository(), id_), content_);
}

TEST_F(Pull, GivesUpWithoutProgress) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 0}, 100);
  EXPECT_THROW(pull_text(repository(), id_), NetworkError);
  EXPECT_EQ(gets(), 3u);
}

TEST_F(Pull, GoesOnWhereTheServerKnowsNoRange) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 400'000});
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kNoRange});
  EXPECT_EQ(pull_text(repository(), id_), content_);
  EXPECT_EQ(gets(), 2u);
}

TEST_F(Pull, RangeThatWasNotAskedForIsRefused) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 400'000});
  registry().inject(
      "GET", "/blobs/",
      {.status = 206, .headers = {{"Content-Range", "bytes 500000-500003/1000000"}}, .body = "abcd"});
  EXPECT_THAT(message_of<DataError>([&] { pull_text(repository(), id_); }), HasSubstr("500000-500003"));
}

TEST_F(Pull, OneWrongBitIsNoticed) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kCorrupt});
  EXPECT_THAT(message_of<DataError>([&] { pull_text(repository(), id_); }), HasSubstr(id_.digest.text()));
  EXPECT_EQ(gets(), 1u);
}

TEST_F(Pull, OverloadIsWaitedFor) {
  registry().inject("GET", "/blobs/", {.status = 503});
  registry().inject("GET", "/blobs/", {.status = 429, .headers = {{"Retry-After", "0"}}});
  EXPECT_EQ(pull_text(repository(), id_), content_);
  EXPECT_EQ(gets(), 3u);
}

TEST_F(Pull, StallEndsTheTransferAndItGoesOn) {
  ClientOptions options;
  options.transport.stall_timeout = std::chrono::milliseconds(300);
  HttpFixture impatient({}, options);
  impatient.registry.put_blob(id_.digest.text(), content_);
  impatient.registry.inject("GET", "/blobs/", {.kind = Fault::Kind::kStall, .bytes = 400'000});
  EXPECT_EQ(pull_text(*impatient.repository, id_), content_);
}

TEST_F(Pull, StopEndsAStalledTransferAtOnce) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kStall, .bytes = 400'000});
  std::stop_source source;
  std::jthread stopper;
  uint64_t taken = 0;
  const auto consume = [&](std::span<const std::byte> data) {
    taken += data.size();
    if (taken == 400'000) stopper = std::jthread([&] { source.request_stop(); });
  };
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(repository().pull_blob(id_, consume, source.get_token()), Cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST_F(Pull, StopEndsAWaitForARetry) {
  ClientOptions options;
  HttpFixture fixture({}, options);
  fixture.registry.inject("GET", "", {.status = 503, .headers = {{"Retry-After", "3600"}}}, 100);
  RetryPolicy patient = quick_retries();
  patient.max_retry_after = std::chrono::milliseconds(3'600'000);
  HttpRepository slow(
      parse_repository_name(fixture.registry.authority() + "/a"),
      {.client = {.plain_http = true, .retry = patient}, .work_directory = fixture.work.path()});
  std::stop_source source;
  std::jthread stopper([&] {
    while (fixture.registry.requests().empty()) std::this_thread::yield();
    source.request_stop();
  });
  EXPECT_THROW(slow.pull_manifest("t", source.get_token()), Cancelled);
}

TEST_F(Pull, RedirectToAnotherHostCarriesNoCredential) {
  FakeRegistry storage;
  storage.put_blob(id_.digest.text(), content_);
  HttpFixture fixture({.authorization = basic_authorization("user", "pa55word")},
                      {.credential = Credential{"user", "pa55word"}});
  const std::string path = "/v2/acme/app/blobs/" + id_.digest.text();
  fixture.registry.redirect("GET", "/blobs/",
                            fmt::format("http://{}{}?signature=abc", storage.authority(), path));
  EXPECT_EQ(pull_text(*fixture.repository, id_), content_);
  ASSERT_EQ(storage.requests().size(), 1u);
  EXPECT_EQ(storage.requests()[0].header("authorization"), "");
  EXPECT_EQ(storage.requests()[0].query, "signature=abc");
}

TEST_F(Pull, LoginThatAStorageServiceAsksForIsRefused) {
  FakeRegistry storage({.authorization = basic_authorization("user", "pa55word")});
  storage.put_blob(id_.digest.text(), content_);
  HttpFixture fixture({.authorization = basic_authorization("user", "pa55word")},
                      {.credential = Credential{"user", "pa55word"}});
  fixture.registry.redirect(
      "GET", "/blobs/",
      fmt::format("http://{}/v2/acme/app/blobs/{}?signature=s3cret", storage.authority(), id_.digest.text()));
  const std::string message = message_of<NetworkError>([&] { pull_text(*fixture.repository, id_); });
  EXPECT_THAT(message, HasSubstr("401"));
  EXPECT_THAT(message, Not(HasSubstr("s3cret")));
  for (const RecordedRequest& request : storage.requests()) EXPECT_EQ(request.header("authorization"), "");
}

TEST_F(Pull, RedirectsAreCountedAndChecked) {
  registry().redirect("GET", "/manifests/", "/v2/acme/app/manifests/round");
  EXPECT_THAT(message_of<NetworkError>([&] { repository().pull_manifest("round", {}); }),
              HasSubstr("redirects"));
  registry().inject("GET", "/blobs/", {.status = 302, .headers = {{"Location", "file:///etc/passwd"}}});
  EXPECT_THAT(message_of<NetworkError>([&] { pull_text(repository(), id_); }), HasSubstr("Location"));
  registry().inject("GET", "/blobs/", {.status = 302});
  EXPECT_THAT(message_of<NetworkError>([&] { pull_text(repository(), id_); }),
              HasSubstr("without a Location"));
}

TEST_F(Pull, ManifestIsAskedForInAllItsForms) {
  registry().put_manifest("t", std::string(media_type::kDockerManifest), R"({"layers":[],"config":{}})");
  EXPECT_EQ(repository().pull_manifest("t", {}).media_type, media_type::kDockerManifest);
  const std::string accept = registry().requests().back().header("accept");
  for (const auto type : {media_type::kOciManifest, media_type::kOciIndex, media_type::kDockerManifest,
                          media_type::kDockerIndex}) {
    EXPECT_THAT(accept, HasSubstr(std::string(type)));
  }
}

TEST_F(Pull, ManifestBeyondTheCapIsRefused) {
  registry().put_manifest("big", "application/json",
                          R"({"layers":[]})" + std::string(kMaxManifestBytes, ' '));
  EXPECT_THAT(message_of<DataError>([&] { repository().pull_manifest("big", {}); }),
              HasSubstr("larger than"));
}

TEST_F(Pull, ManifestWithAnotherDigestThanTheHeaderSaysIsRefused) {
  registry().inject("GET", "/manifests/",
                    {.status = 200,
                     .headers = {{"Docker-Content-Digest", Digest::of("other").text()}},
                     .body = sample_manifest()});
  EXPECT_THROW(repository().pull_manifest("t", {}), DataError);
}

TEST_F(Pull, ErrorHasTheRegistrysOwnWords) {
  registry().inject(
      "GET", "/manifests/",
      {.status = 404,
       .body = R"({"errors":[{"code":"NAME_UNKNOWN","message":"no such\nrepository\u001b[31m"}]})"});
  const std::string message = message_of<NetworkError>([&] { repository().pull_manifest("t", {}); });
  EXPECT_THAT(message, HasSubstr("404"));
  EXPECT_THAT(message, HasSubstr("GET http://" + registry().authority() + "/v2/acme/app/manifests/t"));
  EXPECT_THAT(message, HasSubstr("NAME_UNKNOWN: no such repository"));
  EXPECT_THAT(message, Not(HasSubstr("\x1b")));
}

TEST_F(Pull, HugeErrorBodyIsNotRead) {
  registry().inject("GET", "/manifests/", {.status = 404, .body = std::string(32 << 20, 'x')});
  const std::string message = message_of<NetworkError>([&] { repository().pull_manifest("t", {}); });
  EXPECT_LT(message.size(), 1000u);
}

TEST_F(Pull, RegistryWithoutHeadIsAskedByGet) {
  registry().inject("HEAD", "/blobs/", {.status = 405}, 2);
  EXPECT_TRUE(repository().has_blob(id_, {}));
  EXPECT_FALSE(repository().has_blob(id_of("missing"), {}));
}

TEST_F(Pull, UnreachableRegistryIsNamedAndTriedAgain) {
  std::string authority;
  {
    FakeRegistry gone;
    authority = gone.authority();
  }
  HttpRepository nowhere(parse_repository_name(authority + "/a"),
                         {.client = {.plain_http = true, .retry = quick_retries()}, .work_directory = {}});
  const std::string message = message_of<NetworkError>([&] { nowhere.pull_manifest("t", {}); });
  EXPECT_THAT(message, HasSubstr("could not connect"));
  EXPECT_THAT(message, HasSubstr(authority));
}

TEST_F(Pull, LoopbackWithoutTlsIsSpokenToInPlainHttp) {
  registry().put_manifest("t", std::string(media_type::kOciManifest), sample_manifest());
  HttpRepository probing(parse_repository_name(registry().authority() + "/acme/app"),
                         {.client = {.retry = quick_retries()}, .work_directory = fixture_.work.path()});
  EXPECT_EQ(probing.pull_manifest("t", {}).bytes, sample_manifest());
}

TEST_F(Pull, SourceReadsOnlyTheBlocksThatAreAskedFor) {
  const auto source = repository().open_blob(id_);
  std::string part(100, '\0');
  for (const uint64_t offset : {200'000, 201'000, 300'000, 200'000}) {
    source->read_at(offset, std::as_writable_bytes(std::span(part)));
    EXPECT_EQ(part, content_.substr(offset, part.size()));
  }
  const auto requests = registry().requests("GET", "/blobs/");
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].header("range"), "bytes=196608-212991");
  EXPECT_EQ(requests[1].header("range"), "bytes=294912-311295");
}

TEST_F(Pull, SourceReadsAheadWhereReadingGoesStraightOn) {
  const auto source = repository().open_blob(id_);
  std::string part(1000, '\0');
  for (uint64_t offset = 0; offset < content_.size(); offset += part.size()) {
    source->read_at(offset, std::as_writable_bytes(std::span(part)));
    ASSERT_EQ(part, content_.substr(offset, part.size()));
  }
  EXPECT_LE(gets(), 7u) << "2 + 4 + 8 + … blocks of 16 KiB";
}

TEST_F(Pull, SourceWorksWhereTheServerKnowsNoRange) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kNoRange}, 100);
  const auto source = repository().open_blob(id_);
  std::string part(1000, '\0');
  source->read_at(600'000, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, content_.substr(600'000, part.size()));
}

TEST_F(Pull, SourceOutlivesItsRepository) {
  const auto source = repository().open_blob(id_);
  fixture_.repository.reset();
  std::string part(10, '\0');
  source->read_at(5, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, content_.substr(5, 10));
}

}  // namespace
}  // namespace obd::registry::test
