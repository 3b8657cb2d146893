#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "dedupdb/dedup_db.h"
#include "tests/support/json.h"
#include "tests/support/temporary_directory.h"
#include "tools/db_options.h"
#include "tools/obdctl.h"

namespace obd::tools {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

struct Result {
  int code;
  std::string out;
  std::string err;

  std::vector<json> lines() const {
    std::vector<json> objects;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);) objects.push_back(test::json_of(line));
    return objects;
  }
};

class ObdctlDb : public testing::Test {
 protected:
  void SetUp() override { ::unsetenv(kDbEnvironment); }
  void TearDown() override { ::unsetenv(kDbEnvironment); }

  std::string path() const { return (directory_.path() / "dedup.db").string(); }

  static Result obdctl(std::vector<std::string> args) {
    args.insert(args.begin(), "db");
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    const int code = obdctl_main(args, Io{.in = in, .out = out, .err = err});
    return {code, out.str(), err.str()};
  }

  /// With the database of the test.
  Result on_file(std::vector<std::string> args) const {
    args.insert(args.end(), {"--db-str", path()});
    return obdctl(std::move(args));
  }

  /// Two repositories on two hosts, a layer and a manifest each.
  void fill() const {
    const auto db = dedupdb::open_dedup_db({.location = path()});
    const dedupdb::Key key = {.digest = Digest::of("source"), .variant = "0123456789abcdef"};
    for (const char* host : {"a.example.com", "b.example.com"}) {
      for (const char* repo : {"one", "two"}) {
        db->put_layer({host, repo}, key, Digest::of("layer"), 4096, {});
        db->put_manifest({host, repo}, key, {"", Digest::of("manifest"), 512, "application/x"}, {});
      }
    }
  }

  test::TemporaryDirectory directory_;
};

TEST_F(ObdctlDb, InitMakesTheTablesAndStatusFindsThem) {
  const Result before = on_file({"status"});
  EXPECT_EQ(before.code, 7);
  EXPECT_THAT(before.out, HasSubstr("obdctl db init"));
  EXPECT_FALSE(std::filesystem::exists(path()));
  const Result init = on_file({"init"});
  EXPECT_EQ(init.code, 0) << init.err;
  EXPECT_THAT(init.out, HasSubstr(path()));
  EXPECT_EQ(on_file({"init"}).code, 0);
  EXPECT_EQ(on_file({"status"}).code, 0);
  fill();
  const Result status = on_file({"status", "--json"});
  const auto lines = status.lines();
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0]["name"], "overlaybd_layers");
  EXPECT_EQ(lines[0]["rows"], 4);
  EXPECT_EQ(lines[0]["reference_rows"], 0);
  EXPECT_EQ(lines[0]["hosts"], 2);
  EXPECT_EQ(lines[1]["repos"], 4);
  EXPECT_EQ(lines[2]["type"], "summary");
  EXPECT_EQ(lines[2]["ok"], true);
  EXPECT_THAT(on_file({"status"}).out, HasSubstr("4 rows"));
}

TEST_F(ObdctlDb, ListShowsRowsOfAHostOrRepository) {
  fill();
  const auto all = on_file({"list", "--json"}).lines();
  ASSERT_THAT(all, SizeIs(9));
  EXPECT_EQ(all.back(), (json{{"type", "summary"}, {"layers", 4}, {"manifests", 4}}));
  const auto some = on_file({"list", "--json", "--host", "a.example.com", "--repo", "two"}).lines();
  ASSERT_THAT(some, SizeIs(3));
  EXPECT_EQ(some[0]["type"], "layer");
  EXPECT_EQ(some[0]["host"], "a.example.com");
  EXPECT_EQ(some[0]["repo"], "two");
  EXPECT_EQ(some[0]["key"], Digest::of("source").text() + "+0123456789abcdef");
  EXPECT_EQ(some[0]["digest"], Digest::of("layer").text());
  EXPECT_EQ(some[0]["size"], 4096);
  EXPECT_EQ(some[1]["media_type"], "application/x");
  EXPECT_THAT(on_file({"list", "--repo", "one"}).out, HasSubstr("layer b.example.com/one sha256:"));
  EXPECT_THAT(on_file({"list", "--repo", "three"}).out, IsEmpty());
}

TEST_F(ObdctlDb, PruneRemovesWhatItWasToldTo) {
  fill();
  const Result dry = on_file({"prune", "--host", "a.example.com", "--dry-run"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("would remove 2 layer rows, 2 manifest rows"));
  EXPECT_THAT(dry.out, HasSubstr("layer a.example.com/one"));
  EXPECT_THAT(on_file({"list", "--json"}).lines(), SizeIs(9));
  EXPECT_EQ(on_file({"prune", "--host", "a.example.com"}).out, "removed 2 layer rows, 2 manifest rows\n");
  const auto summary = on_file({"prune", "--all", "--json"}).lines();
  ASSERT_THAT(summary, SizeIs(1));
  EXPECT_EQ(summary[0], (json{{"type", "summary"}, {"dry_run", false}, {"layers", 2}, {"manifests", 2}}));
  EXPECT_THAT(on_file({"list"}).out, IsEmpty());
}

TEST_F(ObdctlDb, PruneAsksWhatToRemove) {
  fill();
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"prune"}, {"prune", "--dry-run"}, {"prune", "--all", "--host", "x"}, {"prune", "--host", ""}}) {
    EXPECT_EQ(on_file(args).code, 2);
  }
  EXPECT_THAT(on_file({"prune"}).err, HasSubstr("--all"));
  EXPECT_THAT(on_file({"list", "--json"}).lines(), SizeIs(9));
}

TEST_F(ObdctlDb, OptionsBelongToTheirActions) {
  EXPECT_EQ(on_file({"init", "--host", "x"}).code, 2);
  EXPECT_EQ(on_file({"status", "--repo", "x"}).code, 2);
  EXPECT_EQ(on_file({"list", "--all"}).code, 2);
  EXPECT_EQ(on_file({"list", "--dry-run"}).code, 2);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(ObdctlDb, SaysWhatIsMissingOrUnknown) {
  EXPECT_THAT(on_file({}).err, HasSubstr("init, status, list or prune"));
  EXPECT_THAT(on_file({"stats"}).err, HasSubstr("did you mean 'status'?"));
  EXPECT_EQ(on_file({"stats"}).code, 2);
  EXPECT_THAT(obdctl({"status"}).err, HasSubstr("which database?"));
  EXPECT_EQ(obdctl({"status"}).code, 2);
  EXPECT_EQ(obdctl({"status", "--db-str", ""}).code, 2);
  EXPECT_EQ(on_file({"status", "--db-type", ""}).code, 2);
  EXPECT_THAT(on_file({"status", "--db-type", "mysq"}).err, HasSubstr("did you mean 'mysql'?"));
  EXPECT_EQ(obdctl({"status", "--db-type", "mysql"}).code, 2);
  EXPECT_EQ(on_file({"status", "extra"}).code, 2);
}

TEST_F(ObdctlDb, HelpNamesEveryAction) {
  const Result help = obdctl({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* word : {"init", "status", "list", "prune", "--db-str-file", "--dry-run"}) {
    EXPECT_THAT(help.out, HasSubstr(word));
  }
  EXPECT_EQ(obdctl({"list", "--help"}).out, help.out);
}

TEST_F(ObdctlDb, FlagsBeatTheEnvironment) {
  fill();
  ::setenv(kDbEnvironment, path().c_str(), 1);
  EXPECT_EQ(obdctl({"status"}).code, 0);
  EXPECT_EQ(obdctl({"status", "--db-str", path() + "-other"}).code, 7);
  ::setenv(kDbEnvironment, "", 1);
  EXPECT_EQ(obdctl({"status"}).code, 2) << "an empty variable is none";
}

TEST_F(ObdctlDb, TheLocationMayStandInAFile) {
  fill();
  const std::string file = (directory_.path() / "location").string();
  test::write_file(file, path() + "\n");
  ::setenv(kDbEnvironment, "/nowhere/x.db", 1);
  EXPECT_EQ(obdctl({"status", "--db-str-file", file}).code, 0);
  EXPECT_EQ(on_file({"status", "--db-str-file", file}).code, 2) << "both were given";
  test::write_file(file, "\n");
  EXPECT_EQ(obdctl({"status", "--db-str-file", file}).code, 2);
  test::write_file(file, std::string(20'000, 'x'));
  EXPECT_EQ(obdctl({"status", "--db-str-file", file}).code, 2);
  EXPECT_EQ(obdctl({"status", "--db-str-file", directory_.path().string()}).code, 4);
  const Result missing = obdctl({"status", "--db-str-file", "/nowhere/location"});
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("'/nowhere/location': No such file"));
}

TEST_F(ObdctlDb, DatabaseFailuresHaveTheirExitCode) {
  const Result result = obdctl({"init", "--db-str", "/nowhere/dedup.db", "--json"});
  EXPECT_EQ(result.code, 7);
  EXPECT_EQ(result.lines().back()["exit_code"], 7);
  EXPECT_THAT(result.err, HasSubstr("there is no directory"));
  EXPECT_EQ(on_file({"list"}).code, 7);
}

TEST_F(ObdctlDb, AMysqlLocationForSqliteIsExplained) {
  const Result result = obdctl({"status", "--db-str", "farm:secret@tcp(db:3306)/dedup"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("--db-type mysql"));
  EXPECT_THAT(result.err, Not(HasSubstr("secret")));
}

TEST_F(ObdctlDb, APasswordOnTheCommandLineIsWarnedOf) {
  const auto choose = [](std::vector<std::string> args) {
    cxxopts::Options options("test");
    add_db_options(options, "Database");
    return parse_db_options(parse_options(options, args));
  };
  const std::string location = "farm:secret@tcp(db:3306)/dedup";
  EXPECT_TRUE(choose({"--db-type", "mysql", "--db-str", location})->password_on_command_line);
  EXPECT_FALSE(choose({"--db-type", "mysql", "--db-str", "farm@tcp(db)/dedup"})->password_on_command_line);
  EXPECT_FALSE(choose({"--db-str", path()})->password_on_command_line);
  EXPECT_FALSE(choose({}));
  ::setenv(kDbEnvironment, location.c_str(), 1);
  EXPECT_FALSE(choose({"--db-type=mysql"})->password_on_command_line);
  EXPECT_EQ(choose({"--db-type=mysql"})->options.location, location);
  // Reaches no server: what counts is what was said before.
  const Result result =
      obdctl({"init", "--db-type=mysql", "--db-str", "farm:secret@unix(/nowhere/socket)/dedup?timeout=1s"});
  EXPECT_EQ(result.code, 7);
  EXPECT_THAT(result.err, HasSubstr("--db-str-file or the environment"));
  EXPECT_THAT(result.err, Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace obd::tools
