// obdctl on references that lead to several images.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "common/byte_source.h"
#include "common/unique_fd.h"
#include "tests/support/json.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"
#include "tools/convertor_cli.h"
#include "tools/obdctl.h"

namespace obd::tools {
namespace {

using Arguments = std::vector<std::string>;
using Json = nlohmann::ordered_json;
using convertor::Descriptor;
using convertor::Platform;
using testing::HasSubstr;

struct Result {
  int code;
  std::string out;
  std::string err;

  /// The lines of --json that have a type.
  std::vector<Json> lines(const std::string& type) const {
    std::vector<Json> found;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);) {
      Json object = test::json_of(line);
      if (object["type"] == type) found.push_back(std::move(object));
    }
    return found;
  }
};

Result run(int (*tool)(const Arguments&, Io), const Arguments& args) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  const int code = tool(args, Io{.in = in, .out = out, .err = err});
  return {code, out.str(), err.str()};
}

class ObdctlOnIndexes : public testing::Test {
 protected:
  /// An image of one file, which holds `content`.
  Descriptor add_image(const std::string& content, const Platform& platform) {
    const test::Bytes tar = test::TarBuilder().directory("etc").file("etc/name", content).end().bytes();
    return images_.add_image({{tar, {}}}, {}, platform);
  }
  void add_two_platforms(const std::string& tag) {
    images_.add_index({add_image("one", kAmd64), add_image("another", kArm64)}, tag);
  }
  void convert(const std::string& source, const std::string& target, const Arguments& more = {}) {
    Arguments args = {"-r",    where(),   "-i", source,  "-o",        target,
                      "--oci", "--vsize", "1",  "--dir", path("work")};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = run(convertor_main, args);
    ASSERT_EQ(result.code, 0) << result.err;
  }
  Result obdctl(const std::string& verb, const std::string& tag, const Arguments& more = {}) {
    Arguments args = {verb, "-r", where(), "-i", tag};
    args.insert(args.end(), more.begin(), more.end());
    return run(obdctl_main, args);
  }
  Result check(const std::string& source, const std::string& converted) {
    return obdctl("check", source, {"-o", converted});
  }
  Result export_disk(const std::string& tag, const Arguments& more) {
    Arguments args = {"-o", path("disk.img")};
    args.insert(args.end(), more.begin(), more.end());
    return obdctl("export", tag, args);
  }
  /// Reads what is there of the sparse file alone.
  bool disk_holds(const std::string& content) {
    const UniqueFd disk(::open(path("disk.img").c_str(), O_RDONLY | O_CLOEXEC));
    for (off_t end = 0, start = 0; (start = ::lseek(disk.get(), end, SEEK_DATA)) >= 0;) {
      end = ::lseek(disk.get(), start, SEEK_HOLE);
      std::string data(static_cast<size_t>(end - start), '\0');
      read_fully(disk.get(), static_cast<uint64_t>(start), std::as_writable_bytes(std::span(data)),
                 "the disk");
      if (data.find(content + std::string(20, '\0')) != std::string::npos) return true;
    }
    return false;
  }
  /// The entries of an index.
  std::vector<Descriptor> entries(const std::string& reference) {
    return convertor::parse_index(images_.repository().pull_manifest(reference, {})).manifests;
  }
  std::string where() const { return "oci:" + images_.path().string(); }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }

  const Platform kAmd64{.os = "linux", .architecture = "amd64"};
  const Platform kArm64{.os = "linux", .architecture = "arm64", .variant = "v8"};
  test::TemporaryDirectory directory_;
  convertor::LayoutImages images_;
};

TEST_F(ObdctlOnIndexes, InspectShowsEveryImage) {
  add_two_platforms("in");
  convert("in", "out");
  const Result json = obdctl("inspect", "out", {"--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  ASSERT_EQ(json.lines("index").size(), 1u);
  EXPECT_EQ(json.lines("index")[0]["digest"], Digest::of(images_.manifest("out")).text());
  const auto found = json.lines("image");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0]["platform"], "linux/amd64");
  EXPECT_EQ(found[1]["platform"], "linux/arm64/v8");
  EXPECT_EQ(json.lines("layer").size(), 2u);
  EXPECT_EQ(json.lines("summary")[0]["layers"], 2);
  EXPECT_THAT(obdctl("inspect", "out").out, HasSubstr("image linux/arm64/v8 sha256:"));
  const auto source = obdctl("inspect", "in", {"--json"});
  EXPECT_EQ(source.lines("foreign_layer").size(), 2u) << source.out;
}

TEST_F(ObdctlOnIndexes, InspectListsWhatRefersToTheIndexAndItsImages) {
  add_two_platforms("in");
  EXPECT_THAT(obdctl("inspect", "in", {"--referrers"}).out, HasSubstr("0 referrers of sha256:"));
  convert("in", "out", {"--referrer"});
  const Result result = obdctl("inspect", "in", {"--referrers", "--json"});
  const auto lines = result.lines("referrer");
  ASSERT_EQ(lines.size(), 3u) << result.out;
  std::vector<std::string> expected = {images_.repository().pull_manifest("out", {}).digest.text()};
  for (const Descriptor& entry : entries("out")) expected.push_back(entry.digest.text());
  std::vector<std::string> found;
  for (const auto& line : lines) found.push_back(line["digest"]);
  EXPECT_THAT(found, testing::UnorderedElementsAreArray(expected));
  EXPECT_THAT(obdctl("inspect", "in", {"--referrers"}).out,
              HasSubstr("application/vnd.containerd.overlaybd.native.v1+json"));
  EXPECT_EQ(run(obdctl_main, {"inspect", "--referrers", "a-file"}).code, 2);
}

TEST_F(ObdctlOnIndexes, VerifyTakesAllImagesAndNamesTheBadOne) {
  add_two_platforms("in");
  convert("in", "out");
  EXPECT_THAT(obdctl("verify", "out").out, HasSubstr("ok: 2 images, 2 blobs"));
  const auto manifest =
      convertor::parse_manifest(images_.repository().pull_manifest(entries("out").at(1).digest.text(), {}));
  const auto blob = images_.blob_path(manifest.layers.at(0).digest);
  std::string bytes = test::read_file(blob);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::filesystem::remove(blob);
  test::write_file(blob, bytes);
  const Result damaged = obdctl("verify", "out");
  EXPECT_EQ(damaged.code, 3);
  EXPECT_THAT(damaged.err,
              HasSubstr("image linux/arm64/v8: layer 0 (" + manifest.layers.at(0).digest.text()));
}

TEST_F(ObdctlOnIndexes, VerifyOfAnOrdinaryImageIsAnError) {
  add_two_platforms("in");
  const Result result = obdctl("verify", "in");
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("not an overlaybd layer"));
}

TEST_F(ObdctlOnIndexes, CheckMatchesImagesByPlatformNotByPlace) {
  add_two_platforms("in");
  convert("in", "out");
  EXPECT_THAT(check("in", "out").out, HasSubstr("equal: 2 images"));
  auto turned = entries("out");
  std::swap(turned[0], turned[1]);
  images_.add_index(turned, "turned");
  EXPECT_EQ(check("in", "turned").code, 0);
  std::swap(turned[0].platform, turned[1].platform);
  images_.add_index(turned, "exchanged");
  const Result exchanged = check("in", "exchanged");
  EXPECT_EQ(exchanged.code, 9);
  EXPECT_THAT(exchanged.out,
              HasSubstr("linux/arm64/v8: /etc/name: size: 7 in the source, 3 in the converted image"));
}

TEST_F(ObdctlOnIndexes, CheckReportsImagesThatOnlyOneSideHas) {
  add_two_platforms("in");
  convert("in", "out");
  images_.add_index({entries("out").at(0)}, "one-out");
  images_.add_index({entries("in").at(0)}, "one-in");
  const Result missing = check("in", "one-out");
  EXPECT_EQ(missing.code, 9);
  EXPECT_THAT(missing.out, HasSubstr("image: linux/arm64/v8 in the source, nothing in the converted image"));
  const Result extra = check("one-in", "out");
  EXPECT_EQ(extra.code, 9);
  EXPECT_THAT(extra.out, HasSubstr("image: nothing in the source, linux/arm64/v8 in the converted image"));
  EXPECT_EQ(check("one-in", "one-out").code, 0);
}

TEST_F(ObdctlOnIndexes, CheckTakesTheImagesOfThePlatformsThatWereConverted) {
  const Platform other{.os = "linux", .architecture = "s390x"};
  images_.add_index({add_image("one", kAmd64), add_image("another", kArm64), add_image("third", other)},
                    "in");
  convert("in", "out", {"--platform", "linux/amd64", "--platform", "linux/s390x"});
  const Result all = check("in", "out");
  EXPECT_EQ(all.code, 9);
  EXPECT_THAT(all.out,
              HasSubstr("1 images of the source have no counterpart: where only some were converted, "
                        "name their platforms with --platform\n"));
  const auto check_only = [&](const Arguments& platforms) {
    Arguments more = {"-o", "out"};
    for (const std::string& platform : platforms) more.insert(more.end(), {"--platform", platform});
    return obdctl("check", "in", more);
  };
  const Result both = check_only({"linux/amd64", "linux/s390x"});
  EXPECT_EQ(both.code, 0) << both.out << both.err;
  EXPECT_THAT(both.out, HasSubstr("equal: 2 images"));
  EXPECT_THAT(check_only({"linux/amd64"}).out, HasSubstr("equal: 1 images")) << "of the converted image too";
  const Result missing = check_only({"linux/amd64", "linux/arm64"});
  EXPECT_EQ(missing.code, 9);
  EXPECT_THAT(missing.out, HasSubstr("image: linux/arm64/v8 in the source, nothing in the converted image"));
  const Result unknown = check_only({"linux/riscv64"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err,
              HasSubstr("no image for the platform linux/riscv64; it has linux/amd64, linux/arm64/v8, "));
  EXPECT_THAT(check_only({"amd64"}).err, HasSubstr("'amd64' is not a platform"));
}

TEST_F(ObdctlOnIndexes, CheckOfAPlatformToldApartByItsVariantAlone) {
  const auto arm = [](const char* variant) {
    return Platform{.os = "linux", .architecture = "arm", .variant = variant};
  };
  images_.add_index({add_image("six", arm("v6")), add_image("seven", arm("v7"))}, "in");
  convert("in", "out", {"--platform", "linux/arm/v7"});
  EXPECT_EQ(obdctl("check", "in", {"-o", "out", "--platform", "linux/arm/v7"}).code, 0);
  EXPECT_EQ(obdctl("check", "in", {"-o", "out", "--platform", "linux/arm"}).code, 9) << "that is both";
  // A single image's config may say nothing of the variant.
  const std::string digest = entries("out").at(0).digest.text();
  EXPECT_EQ(obdctl("check", "in", {"-o", digest, "--platform", "linux/arm/v7"}).code, 0);
}

TEST_F(ObdctlOnIndexes, CheckMatchesAPlatformWhoseVariantIsLeftOut) {
  images_.add_index({add_image("arm", kArm64)}, "in");
  convert("in", "out");
  Descriptor image = entries("out").at(0);
  image.platform->variant.clear();
  images_.add_index({image}, "without");
  EXPECT_EQ(check("in", "without").code, 0);
  // The config says nothing of a variant either.
  EXPECT_EQ(obdctl("check", "in", {"-o", image.digest.text()}).code, 0);
}

TEST_F(ObdctlOnIndexes, ImagesOfOnePlatformAreMatchedInOrder) {
  images_.add_index({add_image("one", kAmd64), add_image("another", kAmd64)}, "in");
  convert("in", "out");
  EXPECT_EQ(check("in", "out").code, 0);
  auto turned = entries("out");
  std::swap(turned[0], turned[1]);
  images_.add_index(turned, "turned");
  EXPECT_EQ(check("in", "turned").code, 9);
}

TEST_F(ObdctlOnIndexes, ExportTakesTheImageOfAPlatform) {
  add_two_platforms("in");
  convert("in", "out");
  const Result none = export_disk("out", {});
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err,
              HasSubstr("several images (linux/amd64, linux/arm64/v8): choose one with --platform"));
  for (const char* platform : {"linux/arm64", "linux/arm64/v8"}) {
    EXPECT_EQ(export_disk("out", {"--platform", platform}).code, 0) << platform;
    EXPECT_TRUE(disk_holds("another")) << platform;
  }
  EXPECT_EQ(export_disk("out", {"--platform", "linux/amd64"}).code, 0);
  EXPECT_FALSE(disk_holds("another"));
  for (const char* platform : {"linux/s390x", "linux/amd64/v3", "windows/amd64"}) {
    const Result unknown = export_disk("out", {"--platform", platform});
    EXPECT_EQ(unknown.code, 2) << platform;
    EXPECT_THAT(unknown.err, testing::AllOf(HasSubstr(platform), HasSubstr("linux/arm64/v8")));
  }
  EXPECT_EQ(export_disk("out", {"--platform", "arm64"}).code, 2);
}

TEST_F(ObdctlOnIndexes, VariantsAreToldApart) {
  const auto arm = [](const char* variant) {
    return Platform{.os = "linux", .architecture = "arm", .variant = variant};
  };
  images_.add_index({add_image("six", arm("v6")), add_image("seven", arm("v7"))}, "two");
  convert("two", "two_obd");
  EXPECT_EQ(export_disk("two_obd", {"--platform", "linux/arm"}).code, 2);
  EXPECT_EQ(export_disk("two_obd", {"--platform", "linux/arm/v7"}).code, 0);
  EXPECT_TRUE(disk_holds("seven"));
  images_.add_index({add_image("any", arm("")), add_image("seven", arm("v7"))}, "any");
  convert("any", "any_obd");
  EXPECT_EQ(export_disk("any_obd", {"--platform", "linux/arm"}).code, 0)
      << "there is one that says just that";
  EXPECT_FALSE(disk_holds("seven"));
}

TEST_F(ObdctlOnIndexes, IndexesWithinIndexesAreFollowed) {
  const Descriptor inner = images_.add_index({add_image("one", kAmd64), add_image("another", kArm64)});
  images_.add_index({inner}, "in");
  convert("in", "out");
  const Result inspected = obdctl("inspect", "out", {"--json"});
  EXPECT_EQ(inspected.lines("index").size(), 2u);
  EXPECT_EQ(inspected.lines("image").size(), 2u);
  EXPECT_EQ(obdctl("verify", "out").code, 0);
  EXPECT_EQ(check("in", "out").code, 0);
  EXPECT_EQ(export_disk("out", {"--platform", "linux/arm64"}).code, 0);
  EXPECT_TRUE(disk_holds("another"));
}

TEST_F(ObdctlOnIndexes, NestingAndNumbersAreBounded) {
  Descriptor index = images_.add_index({add_image("one", kAmd64)});
  for (int depth = 0; depth < 20; ++depth) index = images_.add_index({index}, "deep");
  const Descriptor half = images_.add_index(std::vector<Descriptor>(600, add_image("one", kAmd64)));
  images_.add_index({half, half}, "many");
  for (const char* tag : {"deep", "many"}) {
    for (const char* verb : {"inspect", "verify"}) {
      const Result result = obdctl(verb, tag);
      EXPECT_EQ(result.code, 3) << tag;
      EXPECT_THAT(result.err, HasSubstr("nested more than")) << tag;
    }
  }
}

TEST_F(ObdctlOnIndexes, AttestationsAreNoImages) {
  Descriptor statement =
      images_.add_manifest(registry::media_type::kOciManifest, R"({"layers":[],"config":{}})", {});
  statement.platform = Platform{.os = "unknown", .architecture = "unknown"};
  statement.annotations["vnd.docker.reference.type"] = "attestation-manifest";
  images_.add_index({add_image("one", kAmd64), statement}, "in");
  convert("in", "out");
  EXPECT_THAT(obdctl("inspect", "in").out, HasSubstr("1 attestations"));
  EXPECT_EQ(obdctl("verify", "out").code, 0);
  EXPECT_EQ(check("in", "out").code, 0);
  EXPECT_EQ(export_disk("in", {}).code, 3) << "one image, and it is no overlaybd image";
}

/// Each platform is there twice: as it was, and converted.
TEST_F(ObdctlOnIndexes, MergedIndexIsTakenApart) {
  add_two_platforms("in");
  convert("in", "merged", {"--merge-index"});
  ASSERT_EQ(entries("merged").size(), 4u);
  EXPECT_EQ(obdctl("inspect", "merged", {"--json"}).lines("image").size(), 4u);
  const Result verified = obdctl("verify", "merged");
  EXPECT_EQ(verified.code, 0) << verified.err;
  EXPECT_THAT(verified.out, testing::AllOf(HasSubstr("2 other images"), HasSubstr("ok: 2 images")));
  for (const char* source : {"in", "merged"}) {
    const Result checked = check(source, "merged");
    EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
    EXPECT_THAT(checked.out, HasSubstr("equal: 2 images"));
  }
  EXPECT_EQ(export_disk("merged", {"--platform", "linux/arm64"}).code, 0);
  EXPECT_TRUE(disk_holds("another"));
}

TEST_F(ObdctlOnIndexes, FilesCannotStandForSeveralImages) {
  add_two_platforms("in");
  convert("in", "out");
  const Result result = run(obdctl_main, {"check", "-r", where(), "-i", "in", "layer.obd"});
  EXPECT_EQ(result.code, 4) << result.err;  // the file is not there
  test::write_file(path("layer.tar"), "");
  const Result source =
      run(obdctl_main, {"check", "--source-layer", path("layer.tar"), "-r", where(), "-o", "out"});
  EXPECT_EQ(source.code, 2);
  EXPECT_THAT(source.err, HasSubstr("leads to 2 images, the files make one: choose one of an index with"));
  const Result chosen = run(obdctl_main, {"check", "--source-layer", path("layer.tar"), "-r", where(), "-o",
                                          "out", "--platform", "linux/arm64"});
  EXPECT_EQ(chosen.code, 9) << chosen.err;
  EXPECT_THAT(chosen.out, HasSubstr("/etc: path: nothing in the source"));
  const Result files = run(obdctl_main, {"check", "--source-layer", path("layer.tar"), path("layer.tar"),
                                         "--platform", "linux/arm64"});
  EXPECT_EQ(files.code, 2);
  EXPECT_THAT(files.err, HasSubstr("files say nothing of a platform"));
}

}  // namespace
}  // namespace obd::tools
