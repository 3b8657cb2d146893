#include "tools/convertor_cli.h"
#include "tools/convertor_request.h"
#include "tools/obdctl.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/json.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::tools {
namespace {

using Json = nlohmann::ordered_json;
using Arguments = std::vector<std::string>;
using convertor::LayoutImages;
using testing::HasSubstr;

struct Result {
  int code;
  std::string out;
  std::string err;
};

Result run(const Arguments& args,
           const std::shared_ptr<StopRequest>& stop = std::make_shared<StopRequest>()) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  const int code = convertor_main(args, Io{.in = in, .out = out, .err = err, .stop = stop});
  return {code, out.str(), err.str()};
}

std::vector<Json> json_lines(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(test::json_of(line));
  return lines;
}

/// An image of two layers in a layout, and a place for all that a run leaves.
class ConvertorCli : public testing::Test {
 protected:
  ConvertorCli() {
    const auto lower = test::TarBuilder().directory("etc").file("etc/a", "a").end().bytes();
    const auto upper = test::TarBuilder().file("etc/b", std::string(5000, 'b')).end().bytes();
    images_.add_image({{lower, {}}, {upper, {}}}, "in");
  }
  Arguments arguments(const Arguments& more = {}) const {
    Arguments all = {"-r",
                     "oci:" + images_.path().string(),
                     "-i",
                     "in",
                     "-o",
                     "out",
                     "--oci",
                     "--vsize",
                     "1",
                     "--dir",
                     work().string()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::filesystem::path work() const { return directory_.path() / "work"; }

  test::TemporaryDirectory directory_;
  LayoutImages images_;
};

TEST_F(ConvertorCli, UsageErrorsSayWhatIsWrongAndEndWithTwo) {
  const std::string digest = "sha256:" + std::string(64, 'a');
  const Arguments image = {"-r", "oci:/nowhere", "-i", "in", "-o", "out"};
  const auto with = [&](const Arguments& more) {
    Arguments all = image;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const std::vector<std::pair<Arguments, std::string>> cases = {
      {{}, "--repository (-r) is missing"},
      {{"-r", "x"}, "give one of --input-tag (-i) and --input-digest (-g)"},
      {with({"-g", digest}), "give one of --input-tag (-i) and --input-digest (-g)"},
      {{"-r", "x", "-g", "sha256:abc", "-o", "o"}, "sha256:<64 hex digits>"},
      {{"-r", "x", "-i", "no tag", "-o", "o"}, "'no tag' is no valid tag"},
      {{"-r", "x", "-i", "in", "-o", "\x1B[31m"}, "'\\x1b[31m' is no valid tag"},
      {{"-r", "x", "-i", "in"}, "the result needs a tag"},
      {with({"--overlaybd", "other"}), "name different tags"},
      {with({"--ouput-tag", "x"}), "did you mean '--output-tag'?"},
      {with({"--vszie", "3"}), "did you mean '--vsize'?"},
      {with({"--turboOCI", "x"}), "unknown option '--turboOCI'"},
      {with({"stray"}), "stray"},
      {with({"--fstype", "erofs"}), "overlaybd images hold ext4"},
      {with({"--fstype", "ext5"}), "'ext5' is unknown"},
      {with({"--vsize", "0"}), "--vsize 0 is not within 1 to 16384"},
      {with({"--vsize", "16385"}), "--vsize 16385 is not within"},
      {with({"--vsize", "-1"}), "vsize"},
      {with({"--vsize", "many"}), "'many' is not a value"},
      {with({"--algorithm", "gzip"}), "gzip"},
      {with({"--block-size", "5000"}), "--block-size 5000"},
      {with({"--baselayer", "x"}), "--baselayer goes with --mkfs=false"},
      {with({"--threads", "1025"}), "--threads"},
      {with({"--metadata-budget", "0"}), "--metadata-budget"},
      {with({"--progress", "loud"}), "loud"},
      {with({"-u", ":secret"}), "USER"},
      {with({"--require-db"}), "--require-db needs a database (--db-str) or a cache (--cache-tag)"},
      {with({"--cache-tag", ""}), "--cache-tag '' is no valid tag"},
      {with({"--cache-tag", "a/b"}), "--cache-tag 'a/b' is no valid tag"},
      {with({"--cache-tag", "out"}), "--cache-tag and --output-tag are both 'out'"},
      {with({"--cache-tag", "in"}), "--cache-tag and --input-tag are both 'in'"},
      {with({"--cache-tag", "c", "--db-str", "x.db"}), "give one of --cache-tag and --db-str"},
      {with({"--cache-tag", "c", "--target-repository", "oci-archive:x.tar"}),
       "--cache-tag needs a registry"},
  };
  for (const auto& [args, part] : cases) {
    const Result result = run(args);
    EXPECT_EQ(result.code, 2) << part;
    EXPECT_THAT(result.err, testing::AllOf(testing::StartsWith("convertor: error: "), HasSubstr(part)));
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(ConvertorCli, HelpListsEveryOptionButThoseForTests) {
  const Result result = run({"--help"});
  EXPECT_EQ(result.code, 0);
  for (const std::string& name : option_names(convertor_options())) {
    EXPECT_EQ(result.out.find("--" + name) != std::string::npos, name != "reopen-each-layer") << name;
  }
  EXPECT_EQ(run({"--version"}).code, 0);
}

TEST_F(ConvertorCli, PrintsWhatBecameOfEachLayer) {
  const Result result = run(arguments());
  EXPECT_EQ(result.code, 0) << result.err;
  const std::string digest = Digest::of(images_.manifest("out")).text();
  EXPECT_THAT(result.out, HasSubstr(" out@" + digest + "\n"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 3);
  EXPECT_FALSE(std::filesystem::exists(work())) << "a directory that was made and is empty goes";
}

TEST_F(ConvertorCli, JsonIsALineForEachLayerAndImageAndASummary) {
  const Result result = run(arguments({"--json"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const auto lines = json_lines(result.out);
  ASSERT_EQ(lines.size(), 4u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(lines[i]["type"], "layer");
    EXPECT_TRUE(Digest::is_valid(lines[i]["digest"].get<std::string>()));
    EXPECT_GT(lines[i]["size"], 0);
  }
  EXPECT_EQ(lines[1]["entries"], 1);
  EXPECT_EQ(lines[1]["file_bytes"], 5000);
  EXPECT_EQ(lines[2]["type"], "image");
  EXPECT_EQ(lines[2]["platform"], "linux/amd64");
  EXPECT_EQ(lines[3]["type"], "summary");
  EXPECT_EQ(lines[3]["digest"], Digest::of(images_.manifest("out")).text());
  EXPECT_EQ(lines[3]["uploaded"], true);
}

TEST_F(ConvertorCli, ACacheTagRemembersWhatWasConverted) {
  const auto convert = [&](const Arguments& more) {
    const Result result = run(arguments(more));
    EXPECT_EQ(result.code, 0) << result.err;
    return json_lines(result.out).back();
  };
  const Json cold = convert({"--json", "--cache-tag", "cache"});
  EXPECT_EQ(cold["reuse"]["layers"], 0);
  const Json warm = convert({"--json", "--cache-tag", "cache", "--require-db"});
  EXPECT_EQ(warm["reuse"]["manifests"], 1);
  EXPECT_EQ(warm["digest"], cold["digest"]);
  EXPECT_EQ(convert({"--json", "--cache-tag", "cache", "--no-upload"})["reuse"]["layers"], 0);

  const std::string image = images_.manifest("in");
  images_.add_manifest(registry::media_type::kOciManifest, image, "cache");
  const Result refused = run(arguments({"--cache-tag", "cache"}));
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("which is not overwritten; choose another tag"));
  EXPECT_EQ(images_.manifest("cache"), image);
}

TEST_F(ConvertorCli, ACacheIsNoImage) {
  ASSERT_EQ(run(arguments({"--cache-tag", "cache"})).code, 0);
  const std::string repository = "oci:" + images_.path().string();
  const Result result = run({"-r", repository, "-i", "cache", "-o", "other", "--dir", work().string()});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("holds what convertor --cache-tag remembers, and no image"));

  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(obdctl_main({"inspect", "-r", repository, "-i", "cache"}, Io{.in = in, .out = out, .err = err}),
            0);
  EXPECT_THAT(out.str(), HasSubstr("2 layers and 1 manifests are remembered"));
}

TEST_F(ConvertorCli, JsonEndsWithTheErrorWhereThereIsOne) {
  const Result result = run({"-r", "oci:" + images_.path().string(), "-i", "missing", "-o", "out", "--json",
                             "--dir", work().string()});
  EXPECT_EQ(result.code, 4);
  const auto lines = json_lines(result.out);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["type"], "error");
  EXPECT_EQ(lines[0]["exit_code"], 4);
  EXPECT_THAT(lines[0]["message"].get<std::string>(), HasSubstr("missing"));
}

TEST_F(ConvertorCli, MalformedImageEndsWithThree) {
  images_.add_image({{test::TarBuilder().file("../x", "").end().bytes(), {}}}, "in");
  const Result result = run(arguments());
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("layer 1 of 1"));
  EXPECT_FALSE(std::filesystem::exists(work()));
}

TEST_F(ConvertorCli, MetricsAreOneDocument) {
  const auto path = directory_.path() / "metrics.json";
  const Result result = run(arguments({"--metrics", path.string()}));
  ASSERT_EQ(result.code, 0) << result.err;
  const Json metrics = test::json_of(test::read_file(path));
  EXPECT_GT(metrics["wall_seconds"], 0);
  EXPECT_GT(metrics["peak_rss_bytes"], 1 << 20);
  EXPECT_GT(metrics["source_bytes"], 0);
  EXPECT_EQ(metrics["uncompressed_bytes"], 2560 + 6656) << "both archives, end marks too";
  EXPECT_EQ(metrics["layers"].size(), 2u);
  for (const char* stage : {"fetch", "inflate", "hash", "apply", "compress", "publish"}) {
    EXPECT_TRUE(metrics["cpu_seconds_by_stage"][stage].is_number()) << stage;
  }
}

TEST_F(ConvertorCli, MetricsThatCannotBeWrittenEndTheRunBeforeItsWork) {
  const auto before = images_.files();
  test::write_file(directory_.path() / "file", "");
  for (const char* path : {"none/metrics.json", "file/metrics.json", "."}) {
    const Result result = run(arguments({"--metrics", (directory_.path() / path).string()}));
    EXPECT_EQ(result.code, 4) << path;
    EXPECT_THAT(result.err, HasSubstr("--metrics: writing '")) << path;
    EXPECT_EQ(images_.files(), before) << path;
  }
}

TEST_F(ConvertorCli, WithoutUploadNothingIsRemembered) {
  const auto database = directory_.path() / "layers.db";
  const Result made = run(arguments({"--no-upload", "--require-db", "--db-str", database.string()}));
  EXPECT_EQ(made.code, 0) << made.err;
  EXPECT_FALSE(std::filesystem::exists(database));
  // Nor is one read that would be refused.
  test::write_file(database, std::string(5000, 'x'));
  const Result read = run(arguments({"--no-upload", "--db-str", database.string()}));
  EXPECT_EQ(read.code, 0);
  EXPECT_EQ(read.err, "");
  EXPECT_EQ(test::read_file(database), std::string(5000, 'x'));
  images_.add_manifest(registry::media_type::kOciManifest, images_.manifest("in"), "cache");
  const auto before = images_.files();
  const Result cache = run(arguments({"--no-upload", "--cache-tag", "cache"}));
  EXPECT_EQ(cache.code, 0) << cache.err;
  EXPECT_EQ(images_.files(), before);
}

TEST_F(ConvertorCli, WithoutUploadNothingIsPushed) {
  const auto before = images_.files();
  const Result result = run(arguments({"--no-upload"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("(not pushed)"));
  EXPECT_EQ(images_.files(), before);
}

TEST_F(ConvertorCli, StopRequestEndsTheRunWithItsCode) {
  const auto stop = std::make_shared<StopRequest>();
  stop->request(ExitCode::kTerminated);
  const auto before = images_.files();
  EXPECT_EQ(run(arguments(), stop).code, 143);
  EXPECT_EQ(images_.files(), before);
}

TEST_F(ConvertorCli, DockerTypesInALayoutAreWarnedOf) {
  Arguments args = arguments();
  args.erase(std::find(args.begin(), args.end(), "--oci"));
  const Result result = run(args);
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.err, HasSubstr("--oci writes OCI's"));
}

TEST_F(ConvertorCli, MissingBaseLayerIsToldWithHowToMakeIt) {
  const Result result = run(arguments({"--mkfs=false", "--vsize", "3"}));
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("obd-mkbase"));
}

}  // namespace
}  // namespace obd::tools
