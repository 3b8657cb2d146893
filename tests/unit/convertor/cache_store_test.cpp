// The cache under a tag, in a layout and in a registry that does not heed If-Match.

#include "convertor/cache_store.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "convertor/cache_artifact.h"
#include "registry/http_repository.h"
#include "tests/support/fake_registry.h"
#include "tests/support/temporary_directory.h"

namespace obd::convertor {
namespace {

using std::chrono::milliseconds;
using test::FakeRegistry;
using test::Fault;
using testing::HasSubstr;
using testing::SizeIs;

const std::string kTag = "obd_cache";
const std::string kType(registry::media_type::kOciManifest);
const dedupdb::Place kPlace{.host = "host", .repo = "acme/app"};

dedupdb::Key key(size_t number) {
  return {Digest::of(fmt::format("source {}", number)), std::string(64, 'b')};
}

Digest made(size_t number) {
  return Digest::of(fmt::format("result {}", number));
}

/// A repository, and what the tag in it says.
class Target {
 public:
  virtual ~Target() = default;
  virtual registry::Repository& repository() = 0;
  std::optional<registry::Manifest> tagged() { return registry::find_manifest(repository(), kTag, {}); }
  CacheRecords records() {
    const auto manifest = tagged();
    return manifest ? pull_cache(repository(), *manifest, {}) : CacheRecords();
  }
  void push(const std::string& manifest, const std::string& type = kType) {
    repository().push_manifest(kTag, type, manifest, {});
  }
};

class LayoutTarget final : public Target {
 public:
  registry::Repository& repository() override { return *repository_; }

 private:
  test::TemporaryDirectory directory_;
  std::unique_ptr<registry::Repository> repository_ =
      registry::open_repository("oci:" + (directory_.path() / "layout").string(), {});
};

class RegistryTarget final : public Target {
 public:
  registry::Repository& repository() override { return repository_; }
  FakeRegistry& fake() { return fake_; }

 private:
  static registry::HttpRepository::Options options() {
    registry::HttpRepository::Options options{
        .client = {}, .work_directory = "unused", .spool_memory_bytes = 1 << 20};
    options.client.plain_http = true;
    options.client.retry = {.tries = 2, .first_delay = milliseconds(1), .max_delay = milliseconds(1)};
    return options;
  }

  FakeRegistry fake_;
  registry::HttpRepository repository_{registry::parse_repository_name(fake_.authority() + "/acme/app"),
                                       options()};
};

CacheStore open(Target& target, milliseconds settle = milliseconds(1)) {
  return CacheStore(target.repository(), {.tag = kTag, .settle = settle});
}

void put(CacheStore& store, size_t number) {
  store.put_layer(kPlace, key(number), made(number), number, {});
}

bool has(CacheStore& store, size_t number) {
  const auto found = store.find_layers(kPlace, key(number), {});
  return found.size() == 1 && found[0].digest == made(number) && found[0].repo == kPlace.repo;
}

/// As a run of a converter makes it.
void remember(Target& target, size_t number) {
  CacheStore store = open(target);
  put(store, number);
  store.save({});
}

class CacheStoreTest : public testing::TestWithParam<bool> {
 protected:
  CacheStoreTest() {
    if (GetParam()) {
      target_ = std::make_unique<RegistryTarget>();
    } else {
      target_ = std::make_unique<LayoutTarget>();
    }
  }
  Target& target() { return *target_; }

 private:
  std::unique_ptr<Target> target_;
};

INSTANTIATE_TEST_SUITE_P(In, CacheStoreTest, testing::Bool(),
                         [](const auto& each) { return each.param ? "Registry" : "Layout"; });

TEST_P(CacheStoreTest, WhatOneRunSavesTheNextOneFinds) {
  {
    CacheStore store = open(target());
    EXPECT_FALSE(has(store, 1));
    put(store, 1);
    EXPECT_TRUE(has(store, 1)) << "at once, in the same run";
    store.put_manifest(kPlace, key(2), {.repo = {}, .digest = made(2), .size = 2, .media_type = kType}, {});
    EXPECT_FALSE(target().tagged());
    store.save({});
  }
  CacheStore store = open(target());
  EXPECT_TRUE(has(store, 1));
  EXPECT_FALSE(has(store, 2)) << "a manifest is no layer";
  const auto manifests = store.find_manifests(kPlace, key(2), kType, {});
  ASSERT_THAT(manifests, SizeIs(1));
  EXPECT_EQ(manifests[0].digest, made(2));
  EXPECT_EQ(manifests[0].size, 2u);
  EXPECT_THAT(store.find_manifests(kPlace, key(2), "another/type", {}), SizeIs(0));
}

TEST_P(CacheStoreTest, WhatIsRemovedIsGoneUnlessItWasReplaced) {
  remember(target(), 1);
  remember(target(), 2);
  CacheStore store = open(target());
  store.remove_layer(kPlace, key(1), made(1), {});
  store.remove_layer(kPlace, key(2), made(7), {});
  store.remove_layer(kPlace, key(3), made(3), {});
  EXPECT_FALSE(has(store, 1));
  EXPECT_TRUE(has(store, 2));
  store.save({});
  EXPECT_THAT(target().records(), SizeIs(1));
}

TEST_P(CacheStoreTest, UpdatesAtOnceAllSurvive) {
  constexpr size_t kConverters = 4;
  constexpr size_t kEach = 3;
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < kConverters; ++i) {
      threads.emplace_back([&, i] {
        CacheStore store = open(target(), milliseconds(200));
        for (size_t j = 0; j < kEach; ++j) put(store, kEach * i + j);
        store.save({});
      });
    }
  }
  CacheStore store = open(target());
  for (size_t number = 0; number < kConverters * kEach; ++number) EXPECT_TRUE(has(store, number)) << number;
}

TEST_P(CacheStoreTest, ARunThatFindsAllWritesNothing) {
  remember(target(), 1);
  const Digest before = target().tagged()->digest;
  CacheStore store = open(target());
  EXPECT_TRUE(has(store, 1));
  store.save({});
  EXPECT_EQ(target().tagged()->digest, before);
}

TEST_P(CacheStoreTest, HoldsNoMoreThanItsBound) {
  remember(target(), 1'000'000);
  CacheStore store = open(target());
  for (size_t number = 0; number < cache_document::kMaxRecords; ++number) put(store, number);
  store.save({});
  CacheStore next = open(target());
  EXPECT_FALSE(has(next, 1'000'000));
  EXPECT_TRUE(has(next, 0));
  EXPECT_THAT(target().records(), SizeIs(cache_document::kMaxRecords));
}

TEST_P(CacheStoreTest, ATagThatHoldsSomethingElseIsNeverOverwritten) {
  const std::vector<std::pair<std::string, std::string>> others = {
      {R"({"schemaVersion":2,"config":{},"layers":[]})", kType},
      {R"({"schemaVersion":2,"config":{},"layers":[]})", std::string(registry::media_type::kDockerManifest)},
      {R"({"schemaVersion":2,"manifests":[]})", std::string(registry::media_type::kOciIndex)},
      {R"({"schemaVersion":2,"artifactType":"application/vnd.other","layers":[],
           "annotations":{"a":"application/vnd.overlaybd-convertor.cache"}})",
       kType},
  };
  for (const auto& [manifest, type] : others) {
    CacheStore late = open(target());
    put(late, 1);  // before the other thing is there
    target().push(manifest, type);
    EXPECT_THROW(late.save({}), DbError) << "an image that was converted is not lost for it";
    CacheStore store = open(target());
    EXPECT_THROW(store.find_layers(kPlace, key(1), {}), UsageError);
    EXPECT_EQ(target().tagged()->bytes, manifest);
  }
}

TEST_P(CacheStoreTest, ANewerCacheIsLeftAlone) {
  remember(target(), 1);
  std::string manifest = target().tagged()->bytes;
  const std::string document = R"({"version":2})";
  const size_t layers = manifest.find("\"layers\"");
  manifest.replace(manifest.find("sha256:", layers), 71,
                   target().repository().push_bytes(document, {}).text());
  const size_t size = manifest.find("\"size\":", layers);
  manifest.replace(size, manifest.find('}', size) - size, fmt::format("\"size\":{}", document.size()));
  target().push(manifest);
  CacheStore store = open(target());
  EXPECT_THROW(store.find_layers(kPlace, key(1), {}), DbError);
  put(store, 2);
  EXPECT_THROW(store.save({}), DbError);
  EXPECT_EQ(target().tagged()->bytes, manifest);
}

TEST_P(CacheStoreTest, AMalformedCacheIsBegunAnew) {
  const auto artifact = [&](const std::string& layers) {
    return fmt::format(R"({{"schemaVersion":2,"artifactType":"application/vnd.overlaybd-convertor.cache",
        "config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[{}]}})",
                       Digest::of("{}").text(), layers);
  };
  const auto layer = [](const Digest& digest, uint64_t size, const std::string& type) {
    return fmt::format(R"({{"mediaType":"application/vnd.overlaybd-convertor.{}","digest":"{}","size":{}}})",
                       type, digest.text(), size);
  };
  const std::string type = "cache.records+json";
  const std::string rubbish(1000, '{');
  const Digest digest = target().repository().push_bytes(rubbish, {});
  const std::vector<std::string> cases = {
      artifact(""),
      artifact("1"),
      artifact(layer(digest, rubbish.size(), type)),
      artifact(layer(digest, rubbish.size() - 1, type)),
      artifact(layer(digest, rubbish.size(), "something")),
      artifact(layer(digest, rubbish.size(), type) + "," + layer(digest, rubbish.size(), type)),
      artifact(layer(digest, uint64_t{1} << 40, type)),
      artifact(layer(Digest::of("nothing has it"), 5, type)),
      R"({"artifactType":"application/vnd.overlaybd-convertor.cache"})",
  };
  for (const std::string& manifest : cases) {
    target().push(manifest);
    CacheStore store = open(target());
    EXPECT_THAT(store.find_layers(kPlace, key(1), {}), SizeIs(0)) << manifest;
    put(store, 1);
    store.save({});
    EXPECT_THAT(target().records(), SizeIs(1)) << manifest;
  }
}

TEST_P(CacheStoreTest, SavesNowAndThenWhileMoreIsMade) {
  auto now = std::chrono::steady_clock::time_point();
  CacheStore store(target().repository(),
                   {.tag = kTag, .settle = milliseconds(1), .now = [&] { return now; }});
  put(store, 1);
  EXPECT_FALSE(target().tagged());
  now += std::chrono::seconds(31);
  put(store, 2);
  EXPECT_THAT(target().records(), SizeIs(2));
  put(store, 3);
  EXPECT_THAT(target().records(), SizeIs(2));
  store.save({});
  EXPECT_THAT(target().records(), SizeIs(3));
}

TEST_P(CacheStoreTest, LeasesExcludeTheThreadsOfTheRun) {
  CacheStore store = open(target());
  auto lease = store.acquire("layer", true, {});
  ASSERT_TRUE(lease);
  EXPECT_TRUE(lease->held());
  EXPECT_FALSE(store.acquire("layer", false, {}));
  lease.reset();
  EXPECT_TRUE(store.acquire("layer", false, {}));
}

class CacheInRegistry : public testing::Test {
 protected:
  std::string tag_path() const { return "/manifests/" + kTag; }
  RegistryTarget target_;
  FakeRegistry& fake_ = target_.fake();
};

TEST_F(CacheInRegistry, AWarmRunCostsTwoRequests) {
  remember(target_, 1);
  const size_t before = fake_.requests().size();
  CacheStore store = open(target_);
  EXPECT_TRUE(has(store, 1));
  EXPECT_FALSE(has(store, 2));
  store.save({});
  EXPECT_EQ(fake_.requests().size() - before, 2u);
}

TEST_F(CacheInRegistry, AnUpdateThatAnotherOverwroteIsDoneAgain) {
  remember(target_, 1);
  const registry::Manifest theirs = *target_.tagged();
  CacheStore store = open(target_);
  EXPECT_TRUE(has(store, 1));
  put(store, 2);
  int lost = 3;
  bool written = false;
  fake_.on_request([&](const test::RecordedRequest& request) {
    if (request.path.find(tag_path()) == std::string::npos) return;
    if (written && lost > 0) {  // who had read the tag before us writes it after us
      --lost;
      fake_.put_manifest(kTag, kType, theirs.bytes);
    }
    written = request.method == "PUT";
  });
  store.save({});
  EXPECT_EQ(lost, 0);
  EXPECT_THAT(target_.records(), SizeIs(2));
}

TEST_F(CacheInRegistry, AnUpdateThatIsAlwaysLostIsAnErrorAndEnds) {
  fake_.inject("PUT", tag_path(), {.kind = Fault::Kind::kForget}, 1000);
  CacheStore store = open(target_);
  put(store, 1);
  try {
    store.save({});
    FAIL();
  } catch (const DbError& error) {
    EXPECT_THAT(error.what(), HasSubstr("changed by others 10 times"));
  }
}

TEST_F(CacheInRegistry, IfMatchNamesTheStateThatWasRead) {
  remember(target_, 1);
  fake_.inject("GET", tag_path(),
               {.kind = Fault::Kind::kHeaders, .headers = {{"ETag", "\"of another state\""}}});
  const size_t before = fake_.requests("PUT", tag_path()).size();
  remember(target_, 2);
  const auto puts = fake_.requests("PUT", tag_path());
  ASSERT_EQ(puts.size() - before, 2u) << "refused with 412, then written over what is there";
  EXPECT_EQ(puts[before].header("if-match"), "\"of another state\"");
  EXPECT_THAT(target_.records(), SizeIs(2));
}

TEST_F(CacheInRegistry, OutagesAreNoMisses) {
  remember(target_, 1);
  fake_.inject("GET", tag_path(), {.status = 503}, 2);
  CacheStore store = open(target_);
  EXPECT_THROW(store.find_layers(kPlace, key(1), {}), DbError);
  EXPECT_TRUE(has(store, 1)) << "it is asked again";
  put(store, 2);
  fake_.inject("PUT", tag_path(), {.status = 403});
  EXPECT_THROW(store.save({}), DbError);
  store.save({});
  EXPECT_THAT(target_.records(), SizeIs(2));
}

TEST_F(CacheInRegistry, AnUpdateInBetweenMayFail) {
  auto now = std::chrono::steady_clock::time_point();
  CacheStore store(target_.repository(),
                   {.tag = kTag, .settle = milliseconds(1), .now = [&] { return now; }});
  now += std::chrono::seconds(31);
  fake_.inject("PUT", tag_path(), {.status = 403});
  put(store, 1);
  EXPECT_THAT(target_.records(), SizeIs(0));
  store.save({});
  EXPECT_THAT(target_.records(), SizeIs(1));
}

}  // namespace
}  // namespace obd::convertor
