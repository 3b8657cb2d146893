#include "tools/obdctl.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/json.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/blockfs/blob_builder.h"

namespace obd::tools {
namespace {

using blockfs::ModelledLayer;
using test::Bytes;

struct Result {
  int code;
  std::string out;
  std::string err;
};

Result obdctl(const std::vector<std::string>& args) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  const int code = obdctl_main(args, Io{.in = in, .out = out, .err = err});
  return {code, out.str(), err.str()};
}

std::string_view text_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Two layers over a disk of 1 MiB, as files.
class ObdctlOnFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::mt19937_64 random(31);
    ModelledLayer lower(Bytes(1 << 20), blockfs::kUuidA, "");
    lower.scribble(random, 30);
    lower.finish("the lower one");
    lower_disk_ = lower.disk();
    ModelledLayer upper(lower.disk(), blockfs::kUuidB, blockfs::kUuidA);
    upper.scribble(random, 30);
    upper.finish();
    upper_disk_ = upper.disk();
    test::write_file(path("lower.obd"), text_of(blockfs::compress(lower.file(), {})));
    test::write_file(path("upper.obd"), text_of(upper.file()));
  }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }

  test::TemporaryDirectory directory_;
  Bytes lower_disk_;
  Bytes upper_disk_;
};

TEST_F(ObdctlOnFiles, InspectTellsWhatABlobIs) {
  const Result result = obdctl({"inspect", path("lower.obd"), path("upper.obd")});
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* part : {"ZFile (lz4 level 0, blocks of 4096 bytes, with CRCs), LSMT",
                           "1048576 bytes (1.0 MiB)", blockfs::kUuidA, blockfs::kUuidB, "the lower one"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
  }
}

TEST_F(ObdctlOnFiles, InspectPrintsJsonLinesAndASummary) {
  const Result result = obdctl({"inspect", "--json", path("lower.obd")});
  std::istringstream lines(result.out);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const auto layer = test::json_of(line);
  EXPECT_EQ(layer["type"], "layer");
  EXPECT_EQ(layer["uuid"], blockfs::kUuidA);
  EXPECT_EQ(layer["virtual_bytes"], 1 << 20);
  EXPECT_EQ(layer["compression"]["algorithm"], "lz4");
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(test::json_of(line)["type"], "summary");
}

TEST_F(ObdctlOnFiles, VerifyAcceptsWhatIsSoundAndNamesWhatIsNot) {
  EXPECT_EQ(obdctl({"verify", path("lower.obd"), path("upper.obd")}).code, 0);
  const Result swapped = obdctl({"verify", path("upper.obd"), path("lower.obd")});
  EXPECT_EQ(swapped.code, 0) << "a lowest layer names no parent";
  std::string blob = test::read_file(path("lower.obd"));
  blob[blob.size() / 2] = static_cast<char>(blob[blob.size() / 2] ^ 4);
  test::write_file(path("damaged.obd"), blob);
  const Result damaged = obdctl({"verify", "--json", path("damaged.obd")});
  EXPECT_EQ(damaged.code, 3);
  EXPECT_NE(damaged.err.find("CRC does not match"), std::string::npos) << damaged.err;
  EXPECT_NE(damaged.out.find("\"exit_code\":3"), std::string::npos) << damaged.out;
}

TEST_F(ObdctlOnFiles, VerifyFindsAWrongParent) {
  ModelledLayer stranger(Bytes(1 << 20), "99999999-0000-0000-0000-000000000000",
                         "88888888-0000-0000-0000-000000000000");
  stranger.finish();
  test::write_file(path("stranger.obd"), text_of(stranger.file()));
  EXPECT_EQ(obdctl({"verify", path("lower.obd"), path("stranger.obd")}).code, 3);
}

TEST_F(ObdctlOnFiles, VerifyFindsATrailerThatContradictsTheHeader) {
  std::string blob = test::read_file(path("lower.obd"));
  blob.resize(blob.size() - 1);
  test::write_file(path("short.obd"), blob);
  EXPECT_EQ(obdctl({"verify", path("short.obd")}).code, 3);
  std::string bare = test::read_file(path("upper.obd"));
  bare[60] = bare[60] == '0' ? '1' : '0';  // a digit of the header's UUID
  test::write_file(path("renamed.obd"), bare);
  EXPECT_EQ(obdctl({"verify", path("renamed.obd")}).code, 3);
}

TEST_F(ObdctlOnFiles, ExportWritesTheDiskSparsely) {
  const Result both = obdctl({"export", "-o", path("both.img"), path("lower.obd"), path("upper.obd")});
  EXPECT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(test::read_file(path("both.img")), text_of(upper_disk_));
  EXPECT_EQ(
      obdctl({"export", "-o", path("one.img"), "--layers", "1", path("lower.obd"), path("upper.obd")}).code,
      0);
  EXPECT_EQ(test::read_file(path("one.img")), text_of(lower_disk_));

  ModelledLayer empty(Bytes(uint64_t{8} << 20), blockfs::kUuidA, "");
  empty.write(8, Bytes(1 << 20));
  empty.write(8192, Bytes(4096, std::byte{1}));
  empty.finish();
  test::write_file(path("empty.obd"), text_of(empty.file()));
  EXPECT_EQ(obdctl({"export", "-o", path("empty.img"), path("empty.obd")}).code, 0);
  struct stat status {};
  ASSERT_EQ(::stat(path("empty.img").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 8 << 20);
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
}

TEST_F(ObdctlOnFiles, AFailedExportLeavesNothing) {
  std::string blob = test::read_file(path("lower.obd"));
  blob[blob.size() / 2] = static_cast<char>(blob[blob.size() / 2] ^ 4);
  test::write_file(path("damaged.obd"), blob);
  EXPECT_EQ(obdctl({"export", "-o", path("disk.img"), path("damaged.obd")}).code, 3);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_.path()), {}), 3);
}

TEST_F(ObdctlOnFiles, AStopEndsACommandWithItsCode) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Io io{.in = in, .out = out, .err = err};
  io.stop->request(ExitCode::kTerminated);
  EXPECT_EQ(obdctl_main({"export", "-o", path("disk.img"), path("upper.obd")}, io), 143);
  EXPECT_FALSE(std::filesystem::exists(path("disk.img")));
}

TEST(Obdctl, UsageErrorsExitWith2) {
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {},
           {"inspekt"},
           {"inspect"},
           {"inspect", "--jason", "x"},
           {"verify", "-r", "oci:/x"},
           {"verify", "-r", "oci:/x", "-i", "a", "-g", "sha256:0"},
           {"verify", "-r", "oci:/x", "-i", "a", "file"},
           {"verify", "-r", "oci:/x", "-g", "sha256:0"},
           {"export", "file"},
           {"export", "-o", "/tmp/x", "--layers", "many", "file"},
           {"check"},
           {"check", "--source-layer", "a"},
           {"check", "-r", "oci:/x", "-i", "a", "-o", "b", "file"},
       }) {
    const Result result = obdctl(args);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(args) << result.err;
    EXPECT_TRUE(result.err.starts_with("obdctl: error: ")) << result.err;
  }
}

TEST(Obdctl, HelpIsThereForEveryCommand) {
  for (const char* verb : {"inspect", "verify", "export", "check"}) {
    EXPECT_NE(obdctl({"help"}).out.find(verb), std::string::npos);
    for (const Result& result : {obdctl({verb, "--help"}), obdctl({"help", verb}), obdctl({verb, "-h"})}) {
      EXPECT_EQ(result.code, 0);
      EXPECT_NE(result.out.find("Examples:\n  obdctl"), std::string::npos) << result.out;
      EXPECT_EQ(result.err, "");
    }
  }
  EXPECT_TRUE(obdctl({"--version"}).out.starts_with("obdctl "));
}

TEST(Obdctl, WhatIsNotThereOrNoLayerHasItsOwnCode) {
  EXPECT_EQ(obdctl({"inspect", "/nonexistent/blob"}).code, 4);
  const test::TemporaryDirectory directory;
  test::write_file(directory.path() / "text", "no layer at all");
  EXPECT_EQ(obdctl({"verify", (directory.path() / "text").string()}).code, 3);
}

}  // namespace
}  // namespace obd::tools
