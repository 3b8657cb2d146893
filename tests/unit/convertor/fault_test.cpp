// Conversions through a registry of which one request goes wrong: each request, in each way.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <random>

#include "convertor/tag_converter.h"
#include "registry/http_repository.h"
#include "tests/support/fake_registry.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

using std::chrono::milliseconds;
using test::FakeRegistry;
using test::Fault;
using test::TarBuilder;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

const std::string kPassword = "pa55word";
const std::string kToken = "t0ken-of-the-issuer";

/// Noise, so that layers have a body to break in.
std::string noise(size_t bytes) {
  std::minstd_rand random(7);
  std::string result(bytes, '\0');
  for (char& c : result) c = static_cast<char>(random() >> 8);
  return result;
}

/// The image that all conversions read, made once.
class SourceImage {
 public:
  SourceImage() {
    const test::Bytes lower = TarBuilder().directory("etc").file("etc/a", noise(200'000)).end().bytes();
    const test::Bytes upper = TarBuilder().file("etc/.wh.a", "").file("etc/c", "c").end().bytes();
    images_.add_image({{lower, {}}, {upper, {}}}, "in");
    manifest_ = images_.manifest("in");
    const Json document = Json::parse(manifest_);
    add(document["config"]);
    for (const Json& layer : document["layers"]) add(layer);
  }
  const std::string& manifest() const { return manifest_; }
  const std::map<std::string, std::string>& blobs() const { return blobs_; }

 private:
  void add(const Json& descriptor) {
    const std::string digest = descriptor["digest"];
    blobs_[digest] = images_.blob(Digest::parse(digest));
  }

  LayoutImages images_;
  std::string manifest_;
  std::map<std::string, std::string> blobs_;
};

/// A registry that wants tokens of an issuer and keeps the source's blobs at a storage service; and a host
/// that is none of its business.
class World {
 public:
  explicit World(const SourceImage& source) {
    issuer.serve("/token",
                 [](const auto&) { return fmt::format(R"({{"token":"{}","expires_in":300}})", kToken); });
    registry = std::make_unique<FakeRegistry>(FakeRegistry::Options{
        .token_realm = fmt::format("http://{}/token", issuer.authority()), .checks_manifests = true});
    registry->grant(kToken);
    registry->put_manifest("in", std::string(registry::media_type::kOciManifest), source.manifest());
    for (const auto& [digest, content] : source.blobs()) {
      const std::string path = "/v2/acme/app/blobs/" + digest;
      storage.put_blob(digest, content);
      registry->redirect("GET", path, fmt::format("http://{}{}?signature=s3cret", storage.authority(), path));
    }
  }

  /// What went wrong; empty if nothing did.
  std::string convert() {
    const test::TemporaryDirectory work;
    registry::HttpRepository::Options http;
    http.work_directory = work.path();
    http.spool_memory_bytes = 1 << 20;
    http.client.credential = registry::Credential{"user", kPassword};
    http.client.plain_http = true;
    http.client.retry = {.tries = 3,
                         .first_delay = milliseconds(1),
                         .max_delay = milliseconds(2),
                         .max_retry_after = milliseconds(5),
                         .settle = milliseconds(1)};
    http.client.transport.stall_timeout = milliseconds(250);
    http.client.transport.commit_timeout = milliseconds(250);
    registry::HttpRepository repository(registry::parse_repository_name(registry->authority() + "/acme/app"),
                                        std::move(http));
    blockfs::WorkerPool pool(1);
    ProgressBoard progress;
    const ConvertOptions options{.vsize_gib = 1, .work_directory = work.path() / "work"};
    const Workshop workshop{
        .source = repository, .target = repository, .pool = pool, .progress = progress, .options = options};
    try {
      convert_reference(workshop, "in", "out", {});
    } catch (const Error& error) {
      EXPECT_NE(error.exit_code(), ExitCode::kInternal) << error.what();
      return error.what();
    }
    return {};
  }

  /// Whether the tag is there, and then is right; nobody but the issuer has seen a password, or anybody but
  /// the registry a token.
  bool check(const std::string& expected) const {
    for (const FakeRegistry* host : {&storage, &elsewhere}) {
      for (const auto& request : host->requests())
        EXPECT_EQ(request.header("authorization"), "") << request.path;
    }
    for (const auto& request : registry->requests()) {
      EXPECT_THAT(request.header("authorization"), Not(HasSubstr("Basic")));
    }
    const auto manifest = registry->manifest("out");
    if (!manifest) return false;
    EXPECT_EQ(Digest::of(*manifest).text(), expected);
    const Json document = Json::parse(*manifest);
    std::vector<Json> descriptors = document["layers"];
    descriptors.push_back(document["config"]);
    for (const Json& descriptor : descriptors) {
      const std::string digest = descriptor["digest"];
      const auto blob = registry->blob(digest);
      EXPECT_TRUE(blob) << digest;
      EXPECT_EQ(Digest::of(blob.value_or("")).text(), digest);
    }
    return true;
  }

  FakeRegistry issuer;
  FakeRegistry storage;
  FakeRegistry elsewhere;
  std::unique_ptr<FakeRegistry> registry;
};

struct Way {
  std::string name;
  std::function<Fault(const World&)> fault;
  /// One such failure is mended, whatever it hits.
  bool harmless = false;
};

std::vector<Way> ways() {
  using Kind = Fault::Kind;
  std::vector<Way> result;
  const auto add = [&](std::string name, Fault fault, bool harmless = false) {
    result.push_back({std::move(name), [fault](const World&) { return fault; }, harmless});
  };
  for (const int status : {400, 401, 403, 404, 405, 416})
    add(fmt::format("Status{}", status), {.status = status});
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    add(fmt::format("Status{}", status), {.status = status}, true);
  }
  result.push_back(
      {"ExpiredToken",
       [](const World& world) {
         return Fault{
             .status = 401,
             .headers = {{"WWW-Authenticate", fmt::format("Bearer realm=\"http://{}/token\",service=\"fake\"",
                                                          world.issuer.authority())}}};
       },
       false});
  result.push_back({"RedirectElsewhere",
                    [](const World& world) {
                      return Fault{.status = 307,
                                   .headers = {{"Location", fmt::format("http://{}/v2/x/blobs/uploads/",
                                                                        world.elsewhere.authority())}}};
                    },
                    false});
  const std::string other = Digest::of("other").text();
  add("Reset", {.kind = Kind::kReset}, true);
  add("ResetAfterwards", {.kind = Kind::kResetAfter}, true);
  add("FailedAfterwards", {.kind = Kind::kAfterwards, .status = 503}, true);
  add("Silent", {.kind = Kind::kSilent}, true);
  add("ShortBody", {.kind = Kind::kShortBody, .bytes = 30});
  add("StalledBody", {.kind = Kind::kStall, .bytes = 30});
  add("CorruptBody", {.kind = Kind::kCorrupt});
  add("PartialUpload", {.kind = Kind::kPartial, .status = 502, .bytes = 100});
  add("WrongDigestHeader", {.kind = Kind::kHeaders, .headers = {{"Docker-Content-Digest", other}}});
  add("NonsenseHeaders", {.kind = Kind::kHeaders,
                          .headers = {{"Docker-Content-Digest", "sha256:../../etc"},
                                      {"Location", "file:///etc/passwd"},
                                      {"Range", "bytes 1-x"},
                                      {"Content-Range", "x"}}});
  add("NoHeaders",
      {.kind = Kind::kHeaders, .headers = {{"Docker-Content-Digest", ""}, {"Location", ""}, {"Range", ""}}});
  add("NoLength", {.kind = Kind::kChunked}, true);
  add("HugeBody", {.kind = Kind::kHuge, .bytes = 5 << 20});
  add("HugeError", {.status = 404, .body = std::string(8 << 20, 'x')});
  return result;
}

const SourceImage& source() {
  static const SourceImage image;
  return image;
}

class FaultSweep : public testing::TestWithParam<Way> {
 protected:
  /// What a conversion gives when nothing goes wrong.
  struct Clean {
    std::string digest;
    size_t at_registry = 0;
    size_t at_storage = 0;
    size_t at_issuer = 0;
  };
  static void SetUpTestSuite() { spdlog::set_level(spdlog::level::off); }
  static void TearDownTestSuite() { spdlog::set_level(spdlog::level::info); }

  static const Clean& clean() {
    static const Clean result = [] {
      World world(source());
      EXPECT_EQ(world.convert(), "");
      return Clean{.digest = Digest::of(world.registry->manifest("out").value_or("")).text(),
                   .at_registry = world.registry->requests().size(),
                   .at_storage = world.storage.requests().size(),
                   .at_issuer = world.issuer.requests().size()};
    }();
    return result;
  }

  void run(World& world) {
    const std::string failure = world.convert();
    const bool tagged = world.check(clean().digest);
    if (failure.empty()) {
      EXPECT_TRUE(tagged);
      return;
    }
    if (GetParam().harmless) ADD_FAILURE() << "not mended: " << failure;
    for (const std::string& secret : {kPassword, kToken, std::string("s3cret")}) {
      EXPECT_THAT(failure, Not(HasSubstr(secret)));
    }
    EXPECT_LT(failure.size(), 2000u);
    // A damaged layer may be noticed first by who unpacks it.
    EXPECT_THAT(failure, testing::AnyOf(HasSubstr("127.0.0.1:"), HasSubstr("layer ")))
        << "it says what failed";
  }
};

TEST_P(FaultSweep, EndsInTheRightImageOrInAClearError) {
  ASSERT_GE(clean().at_registry, 12u);
  ASSERT_GE(clean().at_storage, 3u);
  ASSERT_GE(clean().at_issuer, 2u);
  const auto sweep = [&](const std::string& host, size_t requests, const auto& registry_of) {
    for (size_t n = 0; n < requests; ++n) {
      SCOPED_TRACE(fmt::format("request {} at the {}", n, host));
      World world(source());
      registry_of(world).fail_request(n, GetParam().fault(world));
      run(world);
    }
  };
  sweep("registry", clean().at_registry, [](World& world) -> FakeRegistry& { return *world.registry; });
  sweep("storage", clean().at_storage, [](World& world) -> FakeRegistry& { return world.storage; });
  sweep("issuer", clean().at_issuer, [](World& world) -> FakeRegistry& { return world.issuer; });
}

INSTANTIATE_TEST_SUITE_P(Ways, FaultSweep, testing::ValuesIn(ways()),
                         [](const auto& instance) { return instance.param.name; });

TEST(FinishedLayers, AreKeptWhenALaterOneFails) {
  const SourceImage source;
  World world(source);
  const std::string upper = Json::parse(source.manifest())["layers"][1]["digest"];
  world.storage.put_blob(upper, "damaged");
  EXPECT_THAT(world.convert(), HasSubstr("layer 2"));
  EXPECT_FALSE(world.registry->manifest("out"));
  EXPECT_EQ(world.registry->requests("PATCH", "").size(), 1u);
  EXPECT_EQ(world.registry->open_uploads(), 0u);
  world.storage.put_blob(upper, source.blobs().at(upper));
  EXPECT_EQ(world.convert(), "");
  EXPECT_EQ(world.registry->requests("PATCH", "").size(), 2u);
}

}  // namespace
}  // namespace obd::convertor
