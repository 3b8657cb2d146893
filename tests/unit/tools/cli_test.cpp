#include "tools/cli.h"
#include "tests/support/json.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

namespace obd::tools {
namespace {

/// A tool's streams in memory.
struct Streams {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Io io{.in = in, .out = out, .err = err};
};

int run_throwing(Streams& streams, const std::function<void()>& thrower, bool json = false) {
  return run_tool("tool", streams.io, [&](Run& run) {
    run.json = json;
    thrower();
    return ExitCode::kSuccess;
  });
}

TEST(RunTool, MapsWhatIsThrownToExitCodeAndOneLine) {
  const std::vector<std::pair<int, std::function<void()>>> cases = {
      {0, [] {}},
      {1, [] { throw std::runtime_error("oops"); }},
      {1, [] { OBD_CHECK(1 == 2); }},
      {2, [] { throw UsageError("flags"); }},
      {3, [] { throw DataError("data"); }},
      {4, [] { throw IoError("disk"); }},
      {5, [] { throw NetworkError("net", 500); }},
      {6, [] { throw AuthError("auth"); }},
      {8, [] { throw CapacityError("full"); }},
      {8, [] { throw std::bad_alloc(); }},
      {130, [] { throw Cancelled(); }},
  };
  for (const auto& [code, thrower] : cases) {
    Streams streams;
    EXPECT_EQ(run_throwing(streams, thrower), code);
    const std::string error = streams.err.str();
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), code == 0 ? 0 : 1) << error;
    EXPECT_EQ(error.starts_with("tool: error: "), code != 0) << error;
  }
}

TEST(RunTool, TellsTheReasonForAStop) {
  Streams streams;
  streams.io.stop->request(ExitCode::kTerminated);
  streams.io.stop->request(ExitCode::kInterrupted);  // the first counts
  EXPECT_EQ(run_throwing(streams, [] { throw Cancelled(); }), 143);
  EXPECT_TRUE(streams.io.stop->token().stop_requested());
}

TEST(RunTool, PrintsErrorsAsJsonTooWhereThatIsWanted) {
  Streams streams;
  run_throwing(
      streams, [] { throw DataError("bad \xFF byte"); }, true);
  const auto error = test::json_of(streams.out.str());
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["exit_code"], 3);
  EXPECT_NE(std::string(error["message"]).find("bad"), std::string::npos);
}

TEST(RunTool, AResultThatCannotBeWrittenIsAFailure) {
  Streams streams;
  streams.out.setstate(std::ios::badbit);
  EXPECT_EQ(run_throwing(streams, [] {}), 4);
}

cxxopts::Options table() {
  cxxopts::Options options("tool");
  options.add_options()("o,output-tag", "", cxxopts::value<std::string>())(
      "vsize", "", cxxopts::value<int>())("mkfs", "", cxxopts::value<bool>()->default_value("true"))(
      "files", "", cxxopts::value<std::vector<std::string>>());
  options.parse_positional({"files"});
  return options;
}

std::string usage_error(const std::vector<std::string>& args) {
  auto options = table();
  try {
    parse_options(options, args);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "none";
}

TEST(ParseOptions, SuggestsTheOptionThatWasMeant) {
  EXPECT_EQ(usage_error({"--ouput-tag", "x"}), "unknown option '--ouput-tag'; did you mean '--output-tag'?");
  EXPECT_EQ(usage_error({"--vszie=3"}), "unknown option '--vszie'; did you mean '--vsize'?");
  EXPECT_EQ(usage_error({"--turboOCI"}), "unknown option '--turboOCI' (see --help)");
  EXPECT_EQ(usage_error({"-x"}), "unknown option '-x' (see --help)");
}

TEST(ParseOptions, NamesTheOptionWhoseValueIsWrongOrMissing) {
  EXPECT_EQ(usage_error({"--vsize", "large"}), "'large' is not a value for the option '--vsize'");
  EXPECT_EQ(usage_error({"--vsize=large"}), "'large' is not a value for the option '--vsize'");
  EXPECT_EQ(usage_error({"-o"}), "option 'o' is missing an argument");
}

TEST(ParseOptions, TakesValuesAsUsersOfTheReferenceWriteThem) {
  auto options = table();
  const auto parsed =
      parse_options(options, {"--mkfs=false", "-o", "1.4_obd", "--vsize=16", "a,b.obd", "c.obd"});
  EXPECT_FALSE(parsed["mkfs"].as<bool>());
  EXPECT_EQ(parsed["output-tag"].as<std::string>(), "1.4_obd");
  EXPECT_EQ(parsed["vsize"].as<int>(), 16);
  EXPECT_EQ(parsed["files"].as<std::vector<std::string>>(), (std::vector<std::string>{"a,b.obd", "c.obd"}));
}

TEST(DidYouMean, FindsNearNamesAndBeginningsOnly) {
  const std::vector<std::string> names = {"inspect", "verify", "export", "check"};
  EXPECT_EQ(did_you_mean("inspcet", names), "inspect");
  EXPECT_EQ(did_you_mean("exp", names), "export");
  EXPECT_EQ(did_you_mean("chekc", names), "check");
  EXPECT_EQ(did_you_mean("convert", names), "");
  EXPECT_EQ(did_you_mean("", names), "");
}

TEST(ParseCredential, APasswordMayHoldColons) {
  EXPECT_EQ(parse_credential("me:a:b:c").user, "me");
  EXPECT_EQ(parse_credential("me:a:b:c").password, "a:b:c");
  EXPECT_EQ(parse_credential("me").password, "");
  EXPECT_THROW(parse_credential(""), UsageError);
  EXPECT_THROW(parse_credential(":secret"), UsageError);
}

TEST(HumanBytes, HasOneDigitAndAUnit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(uint64_t{64} << 30), "64.0 GiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
}

TEST(Printable, EscapesWhatATerminalOrAJsonReaderCannotTake) {
  EXPECT_EQ(printable("usr/b\xC3\xA4r"), "usr/b\xC3\xA4r");
  EXPECT_EQ(printable("a\nb\x1B[31m\x7F"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(printable("back\\slash"), "back\\x5cslash");
  EXPECT_EQ(printable("\xFF\xC3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xC0\xAF"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(printable("\xC2\x85"), "\\xc2\\x85");           // a control character beyond ASCII
}

TEST(SignalWatch, ASignalBecomesAStopRequest) {
  for (const auto& [number, code] :
       {std::pair(SIGTERM, ExitCode::kTerminated), {SIGINT, ExitCode::kInterrupted}}) {
    const auto stop = std::make_shared<StopRequest>();
    const SignalWatch watch(stop);
    std::mutex mutex;
    std::condition_variable_any stopped;
    ::kill(::getpid(), number);
    std::unique_lock lock(mutex);
    stopped.wait(lock, stop->token(), [] { return false; });
    EXPECT_EQ(stop->reason(), code);
  }
}

TEST(SignalWatchDeathTest, WhoDoesNotStopIsEnded) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto hang = [] {
    const SignalWatch watch(std::make_shared<StopRequest>(), std::chrono::milliseconds(20));
    ::kill(::getpid(), SIGTERM);
    for (;;) ::pause();
  };
  EXPECT_EXIT(hang(), testing::ExitedWithCode(143), "without cleaning up");
}

}  // namespace
}  // namespace obd::tools
