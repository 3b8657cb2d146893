#include "registry/docker_archive.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/compression.h"
#include "tests/support/json.h"
#include "tests/support/tar_builder.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

namespace fs = std::filesystem;
using obd::test::Bytes;
using obd::test::TarBuilder;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::string config_of(const std::vector<std::string>& layers) {
  Json config = {{"os", "linux"}, {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}}};
  for (const std::string& layer : layers) config["rootfs"]["diff_ids"].push_back(Digest::of(layer).text());
  return config.dump();
}

Json image(const std::string& config, const std::vector<std::string>& tags,
           const std::vector<std::string>& layers) {
  return {{"Config", config}, {"RepoTags", tags}, {"Layers", layers}};
}

class DockerArchive : public testing::Test {
 protected:
  DockerArchive() : path_(directory_.path() / "saved.tar") {}

  std::unique_ptr<Repository> open() const {
    return open_repository("docker-archive:" + path_.string(),
                           {.work_directory = directory_.path() / "work"});
  }
  std::unique_ptr<Repository> open(TarBuilder& tar) const {
    obd::test::write_file(path_, text_of(tar.end().bytes()));
    return open();
  }
  /// Images "acme/app:1.0", "acme/app:1.1" and "ubuntu:22.04", and one without a tag.
  std::unique_ptr<Repository> open_four() const {
    TarBuilder tar;
    tar.file("a/layer.tar", "layer a").file("b/layer.tar", "layer b");
    tar.file("a.json", config_of({"layer a"})).file("ab.json", config_of({"layer a", "layer b"}));
    tar.file("b.json", config_of({"layer b"})).file("c.json", config_of({}));
    const Json manifest = {
        image("a.json", {"acme/app:1.0"}, {"a/layer.tar"}),
        image("ab.json", {"acme/app:1.1", "acme/app:latest"}, {"a/layer.tar", "b/layer.tar"}),
        image("b.json", {"ubuntu:22.04", "other:latest"}, {"b/layer.tar"}),
        {{"Config", "c.json"}, {"RepoTags", nullptr}, {"Layers", nullptr}}};
    return open(tar.file("manifest.json", manifest.dump()));
  }

  TemporaryDirectory directory_;
  const fs::path path_;
};

TEST_F(DockerArchive, MakesAManifestThatDependsOnTheImageAlone) {
  const auto repository = open_four();
  const Manifest manifest = repository->pull_manifest("1.1", {});
  EXPECT_EQ(manifest.media_type, media_type::kDockerManifest);
  const auto descriptor = [](std::string_view type, const std::string& content) {
    return Json{{"mediaType", type}, {"size", content.size()}, {"digest", Digest::of(content).text()}};
  };
  const Json expected = {
      {"schemaVersion", 2},
      {"mediaType", media_type::kDockerManifest},
      {"config", descriptor(media_type::kDockerConfig, config_of({"layer a", "layer b"}))},
      {"layers",
       {descriptor(media_type::kDockerLayer, "layer a"), descriptor(media_type::kDockerLayer, "layer b")}}};
  EXPECT_EQ(manifest.bytes, expected.dump());
  EXPECT_EQ(manifest.digest, Digest::of(manifest.bytes));
  EXPECT_EQ(open()->pull_manifest(manifest.digest.text(), {}).bytes, manifest.bytes);
}

TEST_F(DockerArchive, ImagesAreFoundByNameInEveryForm) {
  const auto repository = open_four();
  const auto digest = [&](const char* reference) { return repository->pull_manifest(reference, {}).digest; };
  EXPECT_EQ(digest("acme/app:1.0"), digest("1.0"));
  EXPECT_EQ(digest("docker.io/acme/app:1.0"), digest("1.0"));
  EXPECT_EQ(digest("docker.io/library/ubuntu:22.04"), digest("22.04"));
  EXPECT_EQ(digest("ubuntu:22.04"), digest("other:latest"));
  EXPECT_EQ(digest("acme/app:latest"), digest("1.1"));
  EXPECT_NE(digest("acme/app:latest"), digest("1.0"));
}

TEST_F(DockerArchive, TagOfSeveralImagesIsNotGuessed) {
  EXPECT_THAT(
      message_of<DataError>([&] { open_four()->pull_manifest("latest", {}); }),
      testing::AllOf(HasSubstr("several images"), HasSubstr("acme/app:latest"), HasSubstr("other:latest")));
}

TEST_F(DockerArchive, UnknownTagIsAnErrorThatSaysWhatThereIs) {
  const auto repository = open_four();
  for (const char* reference : {"9.9", "acme/other:1.0", "localhost:5000/acme/app:1.0"}) {
    EXPECT_THAT(
        message_of<IoError>([&] { repository->pull_manifest(reference, {}); }),
        testing::AllOf(HasSubstr(reference), HasSubstr("acme/app:1.0"), HasSubstr("by digest: sha256:")));
  }
  const std::string text = message_of<IoError>([&] { repository->pull_manifest("9.9", {}); });
  const std::string untagged = text.substr(text.find("sha256:"), 71);
  EXPECT_THAT(repository->pull_manifest(untagged, {}).bytes, HasSubstr(Digest::of(config_of({})).text()));
}

TEST_F(DockerArchive, OneImageIsNotTakenForAnyTag) {
  TarBuilder tar;
  const auto repository =
      open(tar.file("c.json", config_of({}))
               .file("manifest.json", Json::array({image("c.json", {"app:1.0"}, {})}).dump()));
  EXPECT_THAT(message_of<IoError>([&] { repository->pull_manifest("latest", {}); }),
              HasSubstr("it has app:1.0"));
}

/// So wrote Docker before version 25 what occurs twice.
TEST_F(DockerArchive, LayersThatAreLinksAreFollowed) {
  TarBuilder tar;
  tar.file("one/layer.tar", "layer").symlink("two/layer.tar", "../one/layer.tar");
  tar.file("c.json", config_of({"layer", "layer"}));
  const auto repository =
      open(tar.file("manifest.json",
                    Json::array({image("c.json", {"app:1.0"}, {"one/layer.tar", "two/layer.tar"})}).dump()));
  const Json manifest = obd::test::json_of(repository->pull_manifest("1.0", {}).bytes);
  ASSERT_EQ(manifest["layers"].size(), 2u);
  EXPECT_EQ(manifest["layers"][0], manifest["layers"][1]);
  EXPECT_EQ(pull_text(*repository, id_of("layer")), "layer");
}

/// So writes Docker from version 25 on where containerd keeps its images.
TEST_F(DockerArchive, CompressedLayersAreNamedByTheirOwnDigest) {
  const std::string packed(text_of(obd::test::gzip(obd::test::to_bytes("layer"))));
  const std::string squeezed(text_of(obd::test::zstd(obd::test::to_bytes("layer"))));
  TarBuilder tar;
  tar.file("blobs/sha256/1", packed)
      .file("blobs/sha256/2", squeezed)
      .file("c", config_of({"layer", "layer"}));
  tar.file("oci-layout", "{}").file("index.json", "ignored");
  const auto repository = open(tar.file(
      "manifest.json", Json::array({image("c", {"app:1.0"}, {"blobs/sha256/1", "blobs/sha256/2"})}).dump()));
  const Json manifest = obd::test::json_of(repository->pull_manifest("1.0", {}).bytes);
  EXPECT_EQ(manifest["layers"][0]["mediaType"], media_type::kDockerLayerGzip);
  EXPECT_EQ(manifest["layers"][0]["digest"], Digest::of(packed).text());
  EXPECT_EQ(manifest["layers"][1]["mediaType"], media_type::kDockerLayerZstd);
  EXPECT_EQ(pull_text(*repository, id_of(squeezed)), squeezed);
}

TEST_F(DockerArchive, LayerThatIsNotWhatItsConfigSaysIsRefused) {
  TarBuilder tar;
  tar.file("l.tar", "layer!").file("c", config_of({"layer?"}));
  const auto repository =
      open(tar.file("manifest.json", Json::array({image("c", {"app:1.0"}, {"l.tar"})}).dump()));
  repository->pull_manifest("1.0", {});
  EXPECT_THAT(message_of<DataError>([&] { pull_text(*repository, id_of("layer?")); }),
              HasSubstr(Digest::of("layer!").text()));
}

TEST_F(DockerArchive, CompressedArchiveIsRead) {
  const Digest expected = open_four()->pull_manifest("1.0", {}).digest;
  obd::test::write_file(path_, text_of(obd::test::gzip(obd::test::to_bytes(obd::test::read_file(path_)))));
  const auto repository = open();
  EXPECT_EQ(repository->pull_manifest("1.0", {}).digest, expected);
  EXPECT_EQ(pull_text(*repository, id_of("layer a")), "layer a");
}

TEST_F(DockerArchive, NothingCanBePushed) {
  const auto repository = open_four();
  const auto says_where = HasSubstr("oci-archive:FILE");
  EXPECT_THAT(message_of<UsageError>([&] { push_text(*repository, "x"); }), says_where);
  EXPECT_THAT(message_of<UsageError>([&] { repository->push_bytes("x", {}); }), says_where);
  EXPECT_THAT(message_of<UsageError>([&] { repository->push_manifest("t", "a/b", "{}", {}); }), says_where);
}

TEST_F(DockerArchive, MalformedArchivesAreRefused) {
  const std::string config = config_of({"layer"});
  const auto manifest = [](const Json& one) { return Json::array({one}).dump(); };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not valid JSON"},
      {"{}", "not a list"},
      {"[1]", "no Config"},
      {R"([{"Config":7}])", "no Config"},
      {R"([{"Config":"c","RepoTags":"app:1.0"}])", "RepoTags is not a list"},
      {R"([{"Config":"c","RepoTags":[1]}])", "something else than names"},
      {manifest(image("../../c", {"app:1.0"}, {"l.tar"})), "which is not there"},
      {manifest(image("c", {"app:1.0"}, {})), "lists 1 diff IDs, but manifest.json 0 layers"},
      {manifest(image("c", {"app:1.0"}, {"lost"})), "names 'lost', which is not there"},
      {manifest(image("c", {"app:1.0"}, {"loop"})), "link over more than"},
      {manifest(image("c", {"app:1.0"}, {"out"})), "out of the archive"},
      {manifest(image("no-rootfs", {"app:1.0"}, {"l.tar"})), "no rootfs"},
      {manifest(image("bad-id", {"app:1.0"}, {"l.tar"})), "sha256"},
      {manifest(image("large", {"app:1.0"}, {"l.tar"})), "more than"},
  };
  for (const auto& [text, part] : cases) {
    TarBuilder tar;
    tar.file("c", config).file("l.tar", "layer").symlink("loop", "loop").symlink("out", "../../etc/passwd");
    tar.file("no-rootfs", "{}").file("bad-id", R"({"rootfs":{"diff_ids":["sha256:../x"]}})");
    tar.file("large", std::string(kMaxManifestBytes + 1, ' ')).file("manifest.json", text);
    const auto repository = open(tar);
    EXPECT_THAT(message_of<DataError>([&] { repository->pull_manifest("1.0", {}); }), HasSubstr(part))
        << text;
  }
  TarBuilder layout;
  EXPECT_THAT(message_of<DataError>([&] { open(layout.file("oci-layout", "{}"))->pull_manifest("1.0", {}); }),
              HasSubstr("looks like an oci-archive"));
}

TEST_F(DockerArchive, CutOffArchiveIsRefused) {
  open_four();
  fs::resize_file(path_, 2000);
  EXPECT_THAT(message_of<DataError>([&] { open()->pull_manifest("1.0", {}); }),
              testing::AllOf(HasSubstr(path_.string()), HasSubstr("at byte")));
}

}  // namespace
}  // namespace obd::registry::test
