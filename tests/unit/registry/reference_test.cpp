#include "registry/reference.h"

#include <gmock/gmock.h>

#include "common/digest.h"
#include "common/error.h"
#include "registry/registry.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

TEST(RepositoryName, IsNormalisedAsDockerDoes) {
  const struct {
    const char* text;
    const char* authority;
    const char* path;
    const char* display;
  } kCases[] = {
      {"ubuntu", "registry-1.docker.io", "library/ubuntu", "docker.io/library/ubuntu"},
      {"acme/app", "registry-1.docker.io", "acme/app", "docker.io/acme/app"},
      {"docker.io/ubuntu", "registry-1.docker.io", "library/ubuntu", "docker.io/library/ubuntu"},
      {"index.docker.io/acme/app", "registry-1.docker.io", "acme/app", "docker.io/acme/app"},
      {"localhost/app", "localhost", "app", "localhost/app"},
      {"localhost:5000/acme/app", "localhost:5000", "acme/app", "localhost:5000/acme/app"},
      {"registry.example.com/a/b/c", "registry.example.com", "a/b/c", "registry.example.com/a/b/c"},
      {"[::1]:5000/a", "[::1]:5000", "a", "[::1]:5000/a"},
      {"host:80/a.b_c__d-e--f/x9", "host:80", "a.b_c__d-e--f/x9", "host:80/a.b_c__d-e--f/x9"},
  };
  for (const auto& expected : kCases) {
    const RepositoryName name = parse_repository_name(expected.text);
    EXPECT_EQ(name.authority, expected.authority) << expected.text;
    EXPECT_EQ(name.path, expected.path) << expected.text;
    EXPECT_EQ(name.display, expected.display) << expected.text;
  }
}

TEST(RepositoryName, RefusesWhatCouldLeaveItsPlaceInAUrl) {
  for (const char* text : {"",
                           "/",
                           "a/",
                           "/a",
                           "a//b",
                           "host.x/",
                           "host.x/A",
                           "host.x/a..b",
                           "host.x/../b",
                           "host.x/a?b",
                           "host.x/a#b",
                           "host.x/a%2fb",
                           "host.x/a b",
                           "host.x/a\nb",
                           "host.x:0/a",
                           "host.x:65536/a",
                           "host.x:x/a",
                           "ho st.x/a",
                           "host..x/a",
                           "-h.x/a",
                           "[::1/a",
                           "[::1%lo]:1/a",
                           "host.x/a___b",
                           "host.x/-a",
                           "host.x/a-",
                           "host.x/a.",
                           "host.x/\xc3\xa4",
                           "host.x:80:80/a"}) {
    EXPECT_THROW(parse_repository_name(text), UsageError) << text;
  }
  EXPECT_THROW(parse_repository_name("host.x/" + std::string(300, 'a')), UsageError);
}

TEST(RepositoryName, CommonMistakesAreExplainedWithoutEchoingSecrets) {
  const auto message = [](const char* text) {
    return message_of<UsageError>([&] { parse_repository_name(text); });
  };
  EXPECT_THAT(message("https://user:hunter2@host/a"),
              testing::AllOf(testing::HasSubstr("scheme"), testing::Not(testing::HasSubstr("hunter2"))));
  EXPECT_THAT(message("user:hunter2@host/a"), testing::Not(testing::HasSubstr("hunter2")));
  EXPECT_THAT(message("host.x/a:1.4"), testing::HasSubstr("tag"));
}

TEST(Loopback, IsThisMachineAndNothingThatLooksLikeIt) {
  for (const char* host : {"localhost", "a.localhost", "127.0.0.1", "127.9.8.7", "::1", "[::1]"}) {
    EXPECT_TRUE(is_loopback_host(host)) << host;
  }
  for (const char* host : {"localhost.example.com", "127.0.0.1.example.com", "127.evil.example.com",
                           "128.0.0.1", "127.1", "notlocalhost", "::2"}) {
    EXPECT_FALSE(is_loopback_host(host)) << host;
  }
}

TEST(Tag, HasTheFormOfTheSpecification) {
  for (const char* tag : {"a", "1.4_obd", "_x", "A-b.C", "latest"}) EXPECT_TRUE(is_valid_tag(tag)) << tag;
  for (const char* tag : {"", ".a", "-a", "a/b", "a:b", "a b", "a\n", "\xc3\xa4"}) {
    EXPECT_FALSE(is_valid_tag(tag)) << tag;
  }
  EXPECT_TRUE(is_valid_tag(std::string(128, 'a')));
  EXPECT_FALSE(is_valid_tag(std::string(129, 'a')));
}

TEST(Reference, IsATagOrADigest) {
  EXPECT_NO_THROW(check_reference("latest"));
  EXPECT_NO_THROW(check_reference(Digest::of("x").text()));
  EXPECT_THROW(check_reference("a b"), UsageError);
  EXPECT_THROW(check_reference("sha256:xyz"), DataError);
}

}  // namespace
}  // namespace obd::registry::test
