#include "registry/challenge.h"

#include <gtest/gtest.h>

namespace obd::registry {
namespace {

TEST(Challenge, BearerHasItsParameters) {
  const auto challenges = parse_challenges(
      R"(Bearer realm="https://auth.x/token",service="registry.x",scope="repository:a/b:pull,push")");
  ASSERT_EQ(challenges.size(), 1u);
  EXPECT_EQ(challenges[0].scheme, "bearer");
  EXPECT_EQ(challenges[0].parameters.at("realm"), "https://auth.x/token");
  EXPECT_EQ(challenges[0].parameters.at("service"), "registry.x");
  EXPECT_EQ(challenges[0].parameters.at("scope"), "repository:a/b:pull,push");
}

TEST(Challenge, SeveralStandInOneHeader) {
  const auto challenges = parse_challenges(R"(Negotiate, BASIC Realm = "a \"b\", c" , Bearer realm=plain)");
  ASSERT_EQ(challenges.size(), 3u);
  EXPECT_EQ(challenges[1].scheme, "basic");
  EXPECT_EQ(challenges[1].parameters.at("realm"), "a \"b\", c");
  EXPECT_EQ(challenges[2].parameters.at("realm"), "plain");
}

TEST(Challenge, NonsenseEndsTheList) {
  for (const char* header :
       {"", "   ", "=", "=x", ",,,", "\"", "Bearer realm=\"open", "a=b", "\x01\x02", "Bearer =x"}) {
    EXPECT_LE(parse_challenges(header).size(), 1u) << header;
  }
}

TEST(BasicAuthorization, IsBase64OfUserAndPassword) {
  EXPECT_EQ(basic_authorization("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  EXPECT_EQ(basic_authorization("", ""), "Basic Og==");
  EXPECT_EQ(basic_authorization("user", "pa:ss"), "Basic dXNlcjpwYTpzcw==");
  EXPECT_EQ(basic_authorization("\xff\xfe", "x"), "Basic //46eA==");
}

}  // namespace
}  // namespace obd::registry
