#include "registry/url.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace obd::registry {
namespace {

TEST(Url, OriginSpellsOutThePort) {
  EXPECT_EQ(Url::parse("https://Host.X/a").origin(), "https://host.x:443");
  EXPECT_EQ(Url::parse("http://host.x/a").origin(), "http://host.x:80");
  EXPECT_EQ(Url::parse("http://[::1]:5000/a").origin(), "http://[::1]:5000");
  EXPECT_EQ(Url::parse("https://host.x:443/").origin(), Url::parse("https://HOST.x").origin());
}

TEST(Url, ResolvesLocations) {
  const Url base = Url::parse("https://host.x/v2/a/blobs/uploads/?x=1");
  EXPECT_EQ(base.resolve("/v2/b").text(), "https://host.x/v2/b");
  EXPECT_EQ(base.resolve("id?state=2").text(), "https://host.x/v2/a/blobs/uploads/id?state=2");
  EXPECT_EQ(base.resolve("https://other.x:8443/c").origin(), "https://other.x:8443");
  EXPECT_EQ(base.resolve("//other.x/c").text(), "https://other.x/c");
}

TEST(Url, AddsToTheQueryThatIsThere) {
  EXPECT_EQ(Url::parse("https://h.x/a").with_query("digest", "sha256:0").text(),
            "https://h.x/a?digest=sha256%3a0");
  EXPECT_EQ(Url::parse("https://h.x/a?_state=b%2Bc").with_query("k", "v w").text(),
            "https://h.x/a?_state=b%2Bc&k=v+w");
}

TEST(Url, RedactsTheQuery) {
  EXPECT_EQ(Url::parse("https://h.x/a?signature=s3cret#f").redacted(), "https://h.x/a?…");
  EXPECT_EQ(Url::parse("https://h.x/a").redacted(), "https://h.x/a");
}

TEST(Url, RefusesOtherSchemesAndCredentials) {
  for (const char* text : {"file:///etc/passwd", "ftp://h.x/a", "gopher://h.x/", "https://user@h.x/",
                           "https://user:secret@h.x/", "not a url", "", "http://"}) {
    EXPECT_THROW(Url::parse(text), NetworkError) << text;
  }
  EXPECT_THROW(Url::parse("https://h.x/").resolve("file:///etc/passwd"), NetworkError);
}

}  // namespace
}  // namespace obd::registry
