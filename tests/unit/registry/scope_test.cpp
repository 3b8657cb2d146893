#include "registry/scope.h"

#include <gtest/gtest.h>

#include "registry/secrets.h"

namespace obd::registry::test {
namespace {

TEST(ScopeSet, NamesWhatARequestNeeds) {
  EXPECT_EQ(ScopeSet::for_access("a/b", Access::kPull).text(), "repository:a/b:pull");
  EXPECT_EQ(ScopeSet::for_access("a/b", Access::kPush).text(), "repository:a/b:pull,push");
  EXPECT_EQ(ScopeSet::for_access("a/b", Access::kPush, "c").text(),
            "repository:a/b:pull,push repository:c:pull");
  EXPECT_EQ(ScopeSet::for_access("a/b", Access::kPush, "a/b").text(), "repository:a/b:pull,push");
}

TEST(ScopeSet, GrowsByWhatIsNamedForItsOwnRepositories) {
  ScopeSet scopes = ScopeSet::for_access("a/b", Access::kPush, "c");
  EXPECT_TRUE(scopes.widen("repository:a/b:delete,push repository:c:push"));
  EXPECT_EQ(scopes.text(), "repository:a/b:pull,push,delete repository:c:pull,push");
  EXPECT_FALSE(scopes.widen("repository:a/b:pull,push,delete")) << "it has all of that";
}

TEST(ScopeSet, DoesNotGrowByAnythingElse) {
  for (const char* named : {"", " ", ":", "::", "repository", "repository:", "repository::", "repository:a/b",
                            "repository:a/b:", "repository:a/b:*", "repository:a/b:admin",
                            "repository:other:pull", "repository:a/b/c:delete", "registry:catalog:*",
                            "registry:a/b:delete", "repository:a/b:pull", "REPOSITORY:a/b:delete"}) {
    ScopeSet scopes = ScopeSet::for_access("a/b", Access::kPush);
    EXPECT_FALSE(scopes.widen(named)) << named;
    EXPECT_EQ(scopes.text(), "repository:a/b:pull,push") << named;
  }
}

TEST(ScopeSet, TakesWhatIsAllowedFromAMixture) {
  ScopeSet scopes = ScopeSet::for_access("a", Access::kPull);
  EXPECT_TRUE(scopes.widen("registry:catalog:* repository:z:push repository:a:*,push,metadata"));
  EXPECT_EQ(scopes.text(), "repository:a:pull,push");
}

TEST(Secrets, AreTakenOutOfTexts) {
  Secrets secrets;
  secrets.add_credential("pa55word");
  secrets.add_credential("abc");
  secrets.add_token("t0ken.t0ken");
  EXPECT_EQ(secrets.scrub("pa55word, pa55word t0ken.t0ken abc"), "***, *** *** abc");
}

TEST(Secrets, KeepTheLastTokensAndAllCredentials) {
  Secrets secrets;
  secrets.add_credential("pa55word");
  for (int i = 0; i < 1000; ++i) secrets.add_token("token-" + std::to_string(i) + "-end");
  EXPECT_EQ(secrets.scrub("token-999-end"), "***");
  EXPECT_EQ(secrets.scrub("token-0-end"), "token-0-end");
  EXPECT_EQ(secrets.scrub("pa55word"), "***");
}

}  // namespace
}  // namespace obd::registry::test
