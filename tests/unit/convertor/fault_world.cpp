#include "tests/unit/convertor/fault_world.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "convertor/tag_converter.h"
#include "registry/challenge.h"
#include "registry/http_repository.h"
#include "tests/support/json.h"
#include "tests/support/noise.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {

using std::chrono::milliseconds;
using test::FakeRegistry;
using test::TarBuilder;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kSourcePath = "acme/app";
constexpr const char* kSignature = "s3cret";

/// Who we are to one registry, and what its issuer gives for that.
struct Login {
  registry::Credential credential;
  std::string token;

  /// All that its issuer alone may see.
  std::vector<std::string> secrets() const {
    return {credential.password,
            registry::basic_authorization(credential.user, credential.password).substr(6),
            credential.identity_token};
  }
};

const Login kSourceLogin{
    .credential = {.user = "reader", .password = "pa55word", .identity_token = "1dentity"},
    .token = "t0ken-to-read"};
const Login kTargetLogin{
    .credential = {.user = "writer", .password = "pa55phrase", .identity_token = "passp0rt"},
    .token = "t0ken-to-write"};

struct SourceImages {
  std::map<std::string, std::pair<std::string, std::string>> manifests;  // by reference: media type, bytes
  std::map<std::string, std::string> blobs;                              // by digest
  std::vector<std::pair<std::string, std::string>> layers;               // of "image"
};

SourceImages make_source_images() {
  LayoutImages layout;
  // So that there is a body to break in.
  const test::Bytes lower =
      TarBuilder().directory("etc").file("etc/a", test::noise(100'000, 7)).end().bytes();
  const test::Bytes upper = TarBuilder().file("etc/.wh.a", "").file("etc/c", "c").end().bytes();
  const test::Bytes other = TarBuilder().file("etc/d", "d").end().bytes();
  const Descriptor image = layout.add_image({{lower, {}}, {upper, {}}}, "image");
  const Descriptor arm =
      layout.add_image({{lower, {}}, {other, {}}}, {}, {.os = "linux", .architecture = "arm64"});
  layout.add_image({{lower, {}}}, "lower");
  layout.add_index({image, arm}, "index");

  SourceImages images;
  const auto add_blob = [&](const Json& descriptor) {
    const std::string digest = descriptor["digest"];
    images.blobs[digest] = layout.blob(Digest::parse(digest));
  };
  for (const std::string& reference : {std::string("image"), std::string("lower"), std::string("index"),
                                       image.digest.text(), arm.digest.text()}) {
    const std::string bytes = layout.manifest(reference);
    const Json document = test::json_of(bytes);
    images.manifests[reference] = {document["mediaType"], bytes};
    if (!document.contains("layers")) continue;
    add_blob(document["config"]);
    for (const Json& layer : document["layers"]) add_blob(layer);
  }
  const Json image_document = test::json_of(images.manifests["image"].second);
  for (const Json& layer : image_document["layers"]) {
    images.layers.emplace_back(layer["digest"], images.blobs.at(layer["digest"]));
  }
  return images;
}

const SourceImages& source_images() {
  static const SourceImages images = make_source_images();
  return images;
}

FakeRegistry::Options registry_options(const Scene& scene, const FakeRegistry& issuer) {
  FakeRegistry::Options options = scene.registry;
  options.token_realm = fmt::format("http://{}/token", issuer.authority());
  options.checks_manifests = true;
  return options;
}

}  // namespace

void PrintTo(const Scene& scene, std::ostream* out) {
  *out << scene.name;
}

std::vector<Scene> scenes() {
  const ConvertOptions referrer{.oci = true, .referrer = true};
  const registry::ParallelOptions eager{
      .min_bytes = 1, .sample_bytes = 1, .slow_bytes_per_second = 1e18, .piece_bytes = 30'000, .streams = 3};
  const FakeRegistry::Options separate{.separate_repositories = true};
  return {
      {.name = "SameRepository"},
      {.name = "OtherRegistry", .other_registry = true, .registry = {.relative_locations = false}},
      {.name = "IdentityTokens", .other_registry = true, .identity_tokens = true},
      {.name = "Index", .reference = "index"},
      {.name = "CopyToOtherRegistry", .options = {.merge_index = true}, .other_registry = true},
      {.name = "CopyByMounts",
       .options = {.merge_index = true},
       .target_path = "acme/out",
       .registry = separate},
      {.name = "CopyWhereMountsAreUnknown",
       .options = {.merge_index = true},
       .target_path = "acme/out",
       .registry = {.mounts = false, .separate_repositories = true}},
      {.name = "ReferrersUnderATag", .options = referrer, .target_path = "acme/app"},
      {.name = "ReferrersOfTheRegistry", .options = referrer, .registry = {.referrers_page = 1}},
      {.name = "Ranges", .parallel = eager},
      {.name = "WholeUploads", .registry = {.pieces = false}},
      {.name = "KnownImage", .known_reference = "image", .known_path = "acme/app"},
      {.name = "KnownLowerLayer", .known_reference = "lower", .known_path = "acme/app"},
      {.name = "ImageKnownElsewhere",
       .target_path = "acme/out",
       .registry = separate,
       .known_reference = "image",
       .known_path = "acme/before"},
  };
}

const std::vector<std::pair<std::string, std::string>>& source_layers() {
  return source_images().layers;
}

World::World(const Scene& scene) : scene_(scene), source_(registry_options(scene, source_issuer_)) {
  if (scene_.other_registry) {
    target_ = std::make_unique<FakeRegistry>(registry_options(scene, target_issuer_));
  }
  const auto found_issuer = [](FakeRegistry& issuer, FakeRegistry& registry, const Login& login) {
    issuer.serve("/token", [token = login.token](const auto&) {
      return fmt::format(R"({{"token":"{}","expires_in":300}})", token);
    });
    registry.grant(login.token);
  };
  found_issuer(source_issuer_, source_, kSourceLogin);
  if (target_) found_issuer(target_issuer_, *target_, kTargetLogin);
  for (const auto& [reference, manifest] : source_images().manifests) {
    source_.put_manifest(reference, manifest.first, manifest.second, kSourcePath);
  }
  for (const auto& [digest, content] : source_images().blobs) {
    const std::string path = fmt::format("/v2/{}/blobs/{}", kSourcePath, digest);
    source_.put_blob(digest, content, kSourcePath);
    storage_.put_blob(digest, content);
    source_.redirect("GET", path,
                     fmt::format("http://{}{}?signature={}", storage_.authority(), path, kSignature));
  }
  if (!scene_.known_reference.empty()) {
    db_ = dedupdb::open_dedup_db({.type = "sqlite", .location = (directory_.path() / "obd.db").string()});
    db_->create_tables({});
    EXPECT_EQ(convert({scene_.known_reference, scene_.known_path, "before"}), "");
  }
  const auto add_host = [&](std::string name, FakeRegistry& server, const FakeRegistry& issuer) {
    hosts_.push_back({std::move(name), &server, fmt::format("http://{}/token", issuer.authority()),
                      server.requests().size()});
  };
  add_host("source", source_, source_issuer_);
  if (target_) add_host("target", *target_, target_issuer_);
  add_host("storage", storage_, source_issuer_);
  add_host("source's issuer", source_issuer_, source_issuer_);
  if (target_) add_host("target's issuer", target_issuer_, target_issuer_);
}

std::unique_ptr<registry::Repository> World::open(const FakeRegistry& server, const std::string& path) const {
  registry::HttpRepository::Options http;
  http.work_directory = directory_.path();
  http.spool_memory_bytes = 1 << 20;
  http.client.credential = (&server == target_.get() ? kTargetLogin : kSourceLogin).credential;
  if (!scene_.identity_tokens) http.client.credential->identity_token.clear();
  http.client.plain_http = true;
  http.client.retry = {.tries = 3,
                       .first_delay = milliseconds(1),
                       .max_delay = milliseconds(2),
                       .max_retry_after = milliseconds(5),
                       .settle = milliseconds(1)};
  const milliseconds patience(kIsSanitized ? 1000 : 300);
  http.client.transport.stall_timeout = patience;
  http.client.transport.commit_timeout = patience;
  http.client.parallel = scene_.parallel;
  return std::make_unique<registry::HttpRepository>(
      registry::parse_repository_name(fmt::format("{}/{}", server.authority(), path)), std::move(http));
}

std::string World::convert(const Run& run) {
  const auto source = open(source_, kSourcePath);
  // One repository, as the program has it.
  const bool same = !target_ && run.path == kSourcePath;
  const auto target = same ? nullptr : open(this->target(), run.path);
  blockfs::WorkerPool pool(1);
  ProgressBoard progress;
  ConvertOptions options = scene_.options;
  options.vsize_gib = 1;
  options.work_directory = directory_.path() / "work";
  const Workshop workshop{.source = *source,
                          .target = target ? *target : *source,
                          .pool = pool,
                          .progress = progress,
                          .options = std::move(options),
                          .records = db_.get()};
  try {
    convert_reference(workshop, run.reference, run.tag, {});
  } catch (const Error& error) {
    EXPECT_NE(error.exit_code(), ExitCode::kInternal) << error.what();
    return error.what();
  }
  return {};
}

std::string World::convert() {
  return convert({scene_.reference, scene_.target_path, "out"});
}

void World::check_tree(const std::string& manifest) const {
  const Json document = test::json_of(manifest);
  for (const Json& child : document.value("manifests", Json::array())) {
    const std::string digest = child["digest"];
    const auto found = target().manifest(digest, scene_.target_path);
    ASSERT_TRUE(found) << digest;
    EXPECT_EQ(Digest::of(*found).text(), digest);
    check_tree(*found);
  }
  if (!document.contains("layers")) return;
  std::vector<Json> descriptors = document["layers"];
  descriptors.push_back(document["config"]);
  for (const Json& descriptor : descriptors) {
    const std::string digest = descriptor["digest"];
    const auto blob = target().blob(digest, scene_.target_path);
    EXPECT_TRUE(blob) << digest;
    EXPECT_EQ(Digest::of(blob.value_or("")).text(), digest);
  }
}

std::optional<std::string> World::tagged() const {
  const auto manifest = target().manifest("out", scene_.target_path);
  if (!manifest) return std::nullopt;
  check_tree(*manifest);
  return Digest::of(*manifest).text();
}

void World::check_lists(const std::optional<std::string>& digest) const {
  if (!scene_.options.referrer || scene_.registry.referrers_page > 0) return;
  const std::string source = Digest::of(source_images().manifests.at(scene_.reference).second).text();
  const auto list = target().manifest("sha256-" + source.substr(7), scene_.target_path);
  if (list) check_tree(*list);
  EXPECT_THAT(list.value_or(""), HasSubstr(digest.value_or("")));
}

void World::check_secrets() const {
  const auto text_of = [](const test::RecordedRequest& request) {
    return fmt::format("{}?{} {} {}", request.path, request.query, request.header("authorization"),
                       request.body);
  };
  const auto check = [&](const FakeRegistry& host, const std::vector<std::string>& forbidden) {
    for (const auto& request : host.requests()) {
      for (const std::string& secret : forbidden) EXPECT_THAT(text_of(request), Not(HasSubstr(secret)));
    }
  };
  const auto with = [](std::vector<std::string> secrets, const std::string& more) {
    secrets.push_back(more);
    return secrets;
  };
  const auto of_source = kSourceLogin.secrets();
  const auto of_target = kTargetLogin.secrets();
  for (const FakeRegistry* stranger : {&storage_, &elsewhere_}) {
    check(*stranger, with(of_source, "t0ken"));
    check(*stranger, of_target);
    for (const auto& request : stranger->requests()) EXPECT_EQ(request.header("authorization"), "");
  }
  check(source_, with(of_source, kTargetLogin.token));
  check(source_, of_target);
  check(source_issuer_, with(of_target, kTargetLogin.token));
  check(target_issuer_, with(of_source, kSourceLogin.token));
  if (!target_) return;
  check(*target_, with(of_source, kSourceLogin.token));
  check(*target_, of_target);
}

std::vector<std::string> World::secrets() {
  std::vector<std::string> all = {kSourceLogin.token, kTargetLogin.token, kSignature};
  for (const Login* login : {&kSourceLogin, &kTargetLogin}) {
    for (const std::string& secret : login->secrets()) all.push_back(secret);
  }
  return all;
}

}  // namespace obd::convertor
