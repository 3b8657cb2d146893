#include "registry/referrers.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/json.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;
using obd::test::RecordedRequest;
using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

const std::string kType(media_type::kOciManifest);

std::string referring_manifest(const Digest& subject, const std::string& marker) {
  return fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.acme.sbom"}},"layers":[],)"
      R"("subject":{{"mediaType":"{}","digest":"{}","size":7}},"annotations":{{"marker":"{}"}}}})",
      kType, kType, subject.text(), marker);
}

std::vector<std::string> markers(const std::vector<Referrer>& referrers) {
  std::vector<std::string> result;
  for (const Referrer& referrer : referrers) result.push_back(referrer.annotations.at("marker"));
  return result;
}

class Referrers : public testing::Test {
 protected:
  std::unique_ptr<HttpRepository> open() {
    return std::make_unique<HttpRepository>(
        parse_repository_name(registry().authority() + "/acme/app"),
        HttpRepository::Options{.client = {.plain_http = true, .retry = quick_retries()},
                                .work_directory = {}});
  }
  FakeRegistry& registry() { return fixture_.registry; }
  Repository& repository() { return *fixture_.repository; }
  Digest push(const std::string& marker) {
    return repository().push_manifest({}, kType, referring_manifest(subject_, marker), {});
  }

  HttpFixture fixture_;
  const Digest subject_ = Digest::of("the image");
  const std::string tag_ = fmt::format("sha256-{}", subject_.hex());
};

TEST_F(Referrers, AreListedUnderATagWhereTheRegistryKeepsNoList) {
  const Digest digest = push("a");
  push("a");
  const auto found = repository().list_referrers(subject_, {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].manifest.digest, digest);
  EXPECT_EQ(found[0].manifest.size, referring_manifest(subject_, "a").size());
  EXPECT_EQ(found[0].media_type, kType);
  EXPECT_EQ(found[0].artifact_type, "application/vnd.acme.sbom") << "the config's media type";
  EXPECT_EQ(found[0].annotations.at("marker"), "a");
  EXPECT_EQ(registry().requests("PUT", tag_)[0].header("content-type"), media_type::kOciIndex);
  EXPECT_TRUE(repository().list_referrers(Digest::of("another"), {}).empty());
}

TEST_F(Referrers, ListKeepsWhatOthersPutThere) {
  registry().put_manifest(
      tag_, std::string(media_type::kOciIndex),
      fmt::format(
          R"({{"schemaVersion":2,"x-acme":1,"manifests":[{{"mediaType":"{}","digest":"{}","size":3,"x":2}}]}})",
          kType, Digest::of("old").text()));
  push("a");
  const auto index = obd::test::json_of(*registry().manifest(tag_));
  EXPECT_EQ(index["x-acme"], 1);
  ASSERT_EQ(index["manifests"].size(), 2u);
  EXPECT_EQ(index["manifests"][0]["x"], 2);
}

TEST_F(Referrers, TheTagComesLast) {
  registry().inject("PUT", tag_, {.status = 403});
  const std::string manifest = referring_manifest(subject_, "a");
  EXPECT_THROW(repository().push_manifest("out", kType, manifest, {}), NetworkError);
  EXPECT_FALSE(registry().manifest("out"));
  repository().push_manifest("out", kType, manifest, {});
  EXPECT_EQ(registry().manifest("out"), manifest);
  EXPECT_EQ(repository().list_referrers(subject_, {}).size(), 1u);
}

TEST_F(Referrers, TheirSettlingDoesNotDependOnTheDelayOfRetries) {
  RetryPolicy impatient = quick_retries();
  impatient.first_delay = std::chrono::milliseconds(0);
  impatient.settle = std::chrono::milliseconds(30);
  HttpRepository own(
      parse_repository_name(registry().authority() + "/acme/app"),
      HttpRepository::Options{.client = {.plain_http = true, .retry = impatient}, .work_directory = {}});
  const auto begin = std::chrono::steady_clock::now();
  own.push_manifest({}, kType, referring_manifest(subject_, "a"), {});
  EXPECT_GE(std::chrono::steady_clock::now() - begin, impatient.settle);
}

TEST_F(Referrers, NothingIsTaggedWhereTheRegistryKeepsTheList) {
  HttpFixture fixture({.referrers_page = 2});
  for (const char* marker : {"a", "b", "c", "d", "e"}) {
    fixture.repository->push_manifest({}, kType, referring_manifest(subject_, marker), {});
  }
  EXPECT_FALSE(fixture.registry.manifest(tag_));
  EXPECT_EQ(fixture.repository->list_referrers(subject_, {}).size(), 5u);
  EXPECT_EQ(fixture.registry.requests("GET", "/referrers/").size(), 3u) << "pages";
}

TEST_F(Referrers, ManifestWithoutASubjectTouchesNoList) {
  repository().push_manifest("t", kType, sample_manifest(), {});
  EXPECT_EQ(registry().requests().size(), 1u);
}

TEST_F(Referrers, EntryThatAnotherProgramOverwroteIsAddedAgain) {
  registry().inject("PUT", tag_, {.kind = Fault::Kind::kForget}, 2);
  push("a");
  EXPECT_EQ(markers(repository().list_referrers(subject_, {})), std::vector<std::string>{"a"});
  EXPECT_EQ(registry().requests("PUT", tag_).size(), 3u);
}

TEST_F(Referrers, EntryThatIsAlwaysLostIsAnErrorAndEnds) {
  registry().inject("PUT", tag_, {.kind = Fault::Kind::kForget}, 1000);
  EXPECT_THAT(message_of<NetworkError>([&] { push("a"); }), HasSubstr("changed by others"));
  EXPECT_LE(registry().requests("PUT", tag_).size(), 20u);
}

TEST_F(Referrers, ListThatChangedBetweenReadAndWriteIsReadAgain) {
  push("first");
  bool done = false;
  const std::string theirs = fmt::format(
      R"({{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":3,"annotations":{{"marker":"theirs"}}}}]}})",
      kType, Digest::of("theirs").text());
  registry().on_request([&](const RecordedRequest& request) {
    if (done || request.method != "PUT" || request.path.find(tag_) == std::string::npos) return;
    done = true;
    registry().put_manifest(tag_, std::string(media_type::kOciIndex), theirs);
  });
  push("ours");
  EXPECT_TRUE(done);
  EXPECT_THAT(markers(repository().list_referrers(subject_, {})),
              UnorderedElementsAreArray({"theirs", "ours"}));
}

TEST_F(Referrers, ThoseThatManyThreadsAddAreAllThere) {
  std::vector<std::string> expected;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      expected.push_back(std::to_string(i));
      threads.emplace_back(
          [&, i] { open()->push_manifest({}, kType, referring_manifest(subject_, std::to_string(i)), {}); });
    }
  }
  EXPECT_THAT(markers(repository().list_referrers(subject_, {})), UnorderedElementsAreArray(expected));
  EXPECT_EQ(registry().requests("PUT", tag_).size(), 8u) << "they take turns";
}

TEST_F(Referrers, TagThatHoldsSomethingElseIsNotOverwritten) {
  registry().put_manifest(tag_, kType, sample_manifest());
  EXPECT_THAT(message_of<DataError>([&] { push("a"); }), HasSubstr("no index"));
  EXPECT_EQ(registry().manifest(tag_), sample_manifest());
}

TEST_F(Referrers, EndlessPagesAndPagesElsewhereAreRefused) {
  const std::string path = fmt::format("/v2/acme/app/referrers/{}", subject_.text());
  const auto page = [](std::string link) {
    return Fault{.status = 200, .headers = {{"Link", std::move(link)}}, .body = R"({"manifests":[]})"};
  };
  registry().inject("GET", "/referrers/", page(fmt::format("<{}?x=1>; rel=\"next\"", path)), 1000);
  EXPECT_THAT(message_of<DataError>([&] { repository().list_referrers(subject_, {}); }), HasSubstr("pages"));
  FakeRegistry elsewhere;
  HttpFixture fixture;
  fixture.registry.inject("GET", "/referrers/",
                          page(fmt::format("<http://{}{}>; rel=next", elsewhere.authority(), path)), 10);
  EXPECT_THAT(message_of<NetworkError>([&] { fixture.repository->list_referrers(subject_, {}); }),
              HasSubstr("another host"));
  EXPECT_TRUE(elsewhere.requests().empty());
}

TEST_F(Referrers, MalformedSubjectIsRefusedBeforeAnythingIsPushed) {
  for (const char* subject : {"1", R"({"digest":"sha256:../../x"})", R"({})"}) {
    const std::string manifest = fmt::format(R"({{"config":{{}},"layers":[],"subject":{}}})", subject);
    EXPECT_THROW(repository().push_manifest({}, kType, manifest, {}), DataError) << subject;
  }
  EXPECT_TRUE(registry().requests().empty());
}

TEST_F(Referrers, OfALayoutAreListedWithoutATag) {
  const auto layout = open_repository("oci:" + (fixture_.work.path() / "layout").string(), {});
  layout->push_manifest("tagged", kType, referring_manifest(subject_, "tagged"), {});
  layout->push_manifest("other", kType, sample_manifest(), {});
  for (int i = 0; i < 2; ++i) layout->push_manifest({}, kType, referring_manifest(subject_, "a"), {});
  EXPECT_THAT(markers(layout->list_referrers(subject_, {})), UnorderedElementsAreArray({"tagged", "a"}));
  EXPECT_EQ(layout->pull_manifest("other", {}).bytes, sample_manifest());
}

}  // namespace
}  // namespace obd::registry::test
