// What a registry says, and what we make of it.

#include "registry/http_error.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <sstream>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string error_body(const std::string& code) {
  return fmt::format(R"({{"errors":[{{"code":"{}","message":"said so"}}]}})", code);
}

std::string message_for(int status, const std::string& code,
                        std::vector<std::pair<std::string, std::string>> headers = {}) {
  HttpFixture fixture;
  fixture.registry.inject("GET", "/manifests/",
                          {.status = status, .headers = std::move(headers), .body = error_body(code)}, 100);
  return message_of<NetworkError>([&] { fixture.repository->pull_manifest("t", {}); });
}

TEST(HttpError, SaysWhetherTheRepositoryOrTheTagIsMissing) {
  EXPECT_THAT(message_for(404, "NAME_UNKNOWN"), HasSubstr("no repository 127.0.0.1"));
  EXPECT_THAT(message_for(404, "MANIFEST_UNKNOWN"), HasSubstr("no such tag or digest"));
  HttpFixture fixture;
  fixture.registry.inject("GET", "", {.status = 404, .body = "<html>"});
  EXPECT_THAT(message_of<NetworkError>([&] { fixture.repository->pull_manifest("t", {}); }),
              HasSubstr("or there is no such repository"));
}

TEST(HttpError, ExplainsLimits) {
  const std::string message = message_for(
      429, "TOOMANYREQUESTS",
      {{"RateLimit-Limit", "100;w=21600"}, {"RateLimit-Remaining", "0;w=21600"}, {"Retry-After", "0"}});
  EXPECT_THAT(message, HasSubstr("TOOMANYREQUESTS: said so"));
  EXPECT_THAT(message, HasSubstr("limit 100;w=21600, remaining 0;w=21600"));
  EXPECT_THAT(message, HasSubstr("a login"));
}

TEST(HttpError, SaysWhenTheRegistryWantsToBeAskedAgain) {
  const auto message = [](const std::string& when) {
    HttpFixture fixture;
    fixture.registry.inject("GET", "", {.status = 503, .headers = {{"Retry-After", when}}}, 100);
    std::string text = message_of<NetworkError>([&] { fixture.repository->pull_manifest("t", {}); });
    return fmt::format("{} tries{}", fixture.registry.requests().size(), text.substr(text.find("later") + 5));
  };
  EXPECT_EQ(message("3600"), "1 tries; it asks us to come back in 3600 s");
  EXPECT_EQ(message("99999999999999999999"), "1 tries; it asks us to come back in 86400 s");
  const std::time_t soon = std::time(nullptr) + 3600;
  EXPECT_THAT(message(fmt::format("{:%a, %d %b %Y %H:%M:%S GMT}", fmt::gmtime(soon))),
              testing::MatchesRegex("1 tries; it asks us to come back in 3[56][0-9][0-9] s"));
  EXPECT_EQ(message("0"), "3 tries");
  EXPECT_EQ(message("Wed, 21 Oct 2015 07:28:00 GMT"), "3 tries");
  EXPECT_EQ(message("in a while"), "3 tries");
}

TEST(HttpError, ExplainsFailuresOfTheServer) {
  EXPECT_THAT(message_for(503, "UNAVAILABLE"), HasSubstr("overloaded or broken"));
}

TEST(HttpError, ExplainsAManifestWhoseBlobsAreGone) {
  HttpFixture fixture;
  fixture.registry.inject("PUT", "/manifests/", {.status = 400, .body = error_body("MANIFEST_BLOB_UNKNOWN")});
  EXPECT_THAT(message_of<NetworkError>([&] {
                fixture.repository->push_manifest("t", std::string(media_type::kOciManifest),
                                                  sample_manifest(), {});
              }),
              HasSubstr("names a blob that the registry has lost"));
}

TEST(QuoteLine, KeepsWhatIsPrintableAndNothingElse) {
  EXPECT_EQ(quote_line("a\nb\x1b[31m"), "a b [31m");
  EXPECT_EQ(quote_line("gr\xC3\xBC\xC3\x9F"), "gr\xC3\xBC\xC3\x9F");
  EXPECT_EQ(quote_line("a\xC2\x9B"
                       "b\xFF\xC3"),
            "a  b  ");
  const std::string cut = quote_line("x" + std::string(299, 'y') + "\xC3\xBC");
  EXPECT_EQ(cut.size(), 300u);
  EXPECT_EQ(quote_line(std::string(299, 'y') + "\xC3\xBC").size(), 299u) << "no half characters";
}

TEST(HttpError, QuotesPagesWithoutTheirMarkup) {
  const auto message = [](const std::string& page) {
    HttpFixture fixture;
    fixture.registry.inject("GET", "", {.status = 400, .body = page});
    return message_of<NetworkError>([&] { fixture.repository->pull_manifest("t", {}); });
  };
  EXPECT_THAT(
      message("<html><head><title>400 No required SSL certificate was sent</title></head>\r\n<body>more"),
      testing::EndsWith("status 400 (400 No required SSL certificate was sent); the server wants a "
                        "certificate from us that it accepts: --client-cert"));
  EXPECT_THAT(
      message("\n<HTML><TITLE>400 The plain HTTP request was sent to HTTPS port</TITLE>"),
      HasSubstr("(400 The plain HTTP request was sent to HTTPS port); the server speaks https: leave out "
                "--plain"));
  EXPECT_THAT(message("Client sent an HTTP request to an HTTPS server.\n"), HasSubstr("leave out --plain"));
  EXPECT_THAT(message("<!DOCTYPE html>\n<p>No <b>more</b>\n\tthan\x1b this"),
              testing::EndsWith("(No more than  this)"));
  EXPECT_THAT(message("<"), testing::EndsWith("status 400"));
  EXPECT_LT(message("<p>" + std::string(10'000, 'x')).size(), 500u);
}

size_t occurrences(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(Warnings, AreShownOnceEach) {
  HttpFixture fixture;
  fixture.registry.put_manifest("t", std::string(media_type::kOciManifest), sample_manifest());
  const CapturedLog log;
  for (const char* warning : {R"(299 - "this tag \"goes\" away")", R"(299 - "this tag \"goes\" away")",
                              R"(199 - "no")", R"(299 - "another)", "299", R"(299 - "")"}) {
    fixture.registry.inject("GET", "",
                            {.kind = obd::test::Fault::Kind::kHeaders, .headers = {{"Warning", warning}}});
    fixture.repository->pull_manifest("t", {});
  }
  EXPECT_EQ(occurrences(log.text(), "this tag \"goes\" away"), 1u) << log.text();
  EXPECT_EQ(occurrences(log.text(), "warns: another"), 1u);
  EXPECT_EQ(occurrences(log.text(), "warns:"), 2u);
}

TEST(Warnings, AreShownAllWhereOneHeaderHasSeveral) {
  HttpFixture fixture;
  fixture.registry.put_manifest("t", std::string(media_type::kOciManifest), sample_manifest());
  const CapturedLog log;
  fixture.registry.inject(
      "GET", "",
      {.kind = obd::test::Fault::Kind::kHeaders,
       .headers = {{"Warning",
                    R"(299 - "one, two" "Wed, 21 Oct 2015 07:28:00 GMT", 199 - "hidden",299 a "three")"}}});
  fixture.repository->pull_manifest("t", {});
  EXPECT_EQ(occurrences(log.text(), "warns: one, two"), 1u) << log.text();
  EXPECT_EQ(occurrences(log.text(), "warns: three"), 1u);
  EXPECT_EQ(occurrences(log.text(), "warns:"), 2u);
}

}  // namespace
}  // namespace obd::registry::test
