#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "registry/auth.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;
using obd::test::RecordedRequest;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const Credential kUser{"user", "pa:55 word&more"};
const Credential kIdentity{"", "", "identity-token"};

Fault challenge(int status, const std::string& parameters) {
  return {.status = status, .headers = {{"WWW-Authenticate", "Bearer " + parameters}}};
}

/// A registry that wants tokens, the service that issues them, and a clock.
class Service : public testing::Test {
 protected:
  Service() { issue(R"({"token":"first-token","expires_in":300})"); }

  void issue(const std::string& answer, const std::string& granted = "first-token") {
    service_.serve("/token", [answer](const RecordedRequest&) { return answer; });
    registry_.grant(granted);
  }
  std::unique_ptr<RegistryClient> client(ClientOptions options) {
    options.plain_http = true;
    options.retry = quick_retries();
    options.now = [this] { return now_; };
    return std::make_unique<RegistryClient>(parse_repository_name(registry_.authority() + "/acme/app"),
                                            std::move(options));
  }
  std::unique_ptr<RegistryClient> client(std::optional<Credential> credential = kUser) {
    return client(ClientOptions{.credential = std::move(credential)});
  }
  /// A request that answers 404 to whoever may ask.
  static int ask(RegistryClient& client, Access access = Access::kPull, const std::string& mount_from = {}) {
    Call call{.request = {.method = "GET", .url = client.url("manifests/t", {})}, .access = access};
    call.mount_from = mount_from;
    call.answers = {404};
    return client.send(call, {}).status;
  }
  std::string realm() const {
    return fmt::format("realm=\"http://{}/token\",service=\"fake\"", service_.authority());
  }
  std::vector<RecordedRequest> gets() const { return service_.requests("GET", "/token"); }
  std::vector<RecordedRequest> posts() const { return service_.requests("POST", "/token"); }

  FakeRegistry service_;
  FakeRegistry registry_{{.token_realm = "http://" + service_.authority() + "/token"}};
  std::chrono::steady_clock::time_point now_;
};

TEST_F(Service, TakesAnIdentityTokenByPost) {
  issue(R"({"access_token":"first-token"})");
  EXPECT_EQ(ask(*client(kIdentity)), 404);
  EXPECT_EQ(gets().size(), 0u);
  ASSERT_EQ(posts().size(), 1u);
  EXPECT_EQ(posts()[0].header("content-type"), "application/x-www-form-urlencoded");
  EXPECT_EQ(posts()[0].header("authorization"), "");
  EXPECT_EQ(posts()[0].body,
            "grant_type=refresh_token&refresh_token=identity-token&client_id=overlaybd-convertor"
            "&scope=repository%3Aacme%2Fapp%3Apull&service=fake");
}

TEST_F(Service, ThatKnowsNoGetIsAskedByPost) {
  for (const int status : {404, 405}) {
    service_.inject("GET", "/token", {.status = status}, 1);
    const auto opened = client();
    const size_t before = posts().size();
    EXPECT_EQ(ask(*opened), 404);
    ASSERT_EQ(posts().size(), before + 1);
    EXPECT_THAT(posts().back().body, AllOf(HasSubstr("grant_type=password&"), HasSubstr("&username=user"),
                                           HasSubstr("&password=pa%3A55%20word%26more")));
    const size_t asked = gets().size();
    EXPECT_EQ(ask(*opened, Access::kPush), 404);
    EXPECT_EQ(gets().size(), asked) << "GET is not tried again";
  }
}

TEST_F(Service, ThatTakesNoIdentityTokensIsExplained) {
  service_.inject("POST", "/token", {.status = 404}, 10);
  EXPECT_THAT(message_of<AuthError>([&] { ask(*client(kIdentity)); }),
              AllOf(HasSubstr("takes no identity token"), Not(HasSubstr("identity-token"))));
}

TEST_F(Service, RefusesInTheWordsOfOAuthWithoutTheSecret) {
  service_.inject(
      "POST", "/token",
      {.status = 400, .body = R"({"error":"invalid_grant","error_description":"identity-token is old"})"});
  EXPECT_THAT(message_of<AuthError>([&] { ask(*client(kIdentity)); }),
              AllOf(HasSubstr("invalid_grant: *** is old"), Not(HasSubstr("identity-token"))));
}

TEST_F(Service, ReturnsARefreshTokenThatIsUsedFromThenOn) {
  service_.inject("GET", "/token", {.status = 404}, 1);
  issue(R"({"access_token":"first-token","refresh_token":"session-token"})");
  const auto opened = client();
  EXPECT_EQ(ask(*opened), 404);
  EXPECT_EQ(ask(*opened, Access::kPush), 404);
  ASSERT_EQ(posts().size(), 2u);
  EXPECT_THAT(posts()[1].body, AllOf(HasSubstr("refresh_token=session-token"), Not(HasSubstr("password"))));
}

TEST_F(Service, RefreshTokenThatHasEndedGivesWayToTheCredential) {
  issue(R"({"access_token":"first-token","refresh_token":"session-token"})");
  const auto opened = client(kIdentity);
  EXPECT_EQ(ask(*opened), 404);
  service_.inject("POST", "/token", {.status = 401}, 1);
  EXPECT_EQ(ask(*opened, Access::kPush), 404);
  ASSERT_EQ(posts().size(), 3u);
  EXPECT_THAT(posts()[1].body, HasSubstr("=session-token"));
  EXPECT_THAT(posts()[2].body, HasSubstr("=identity-token"));
}

TEST_F(Service, PostIsNotSentOnToAnotherPlace) {
  FakeRegistry elsewhere;
  service_.inject("POST", "/token",
                  {.status = 307, .headers = {{"Location", "http://" + elsewhere.authority() + "/token"}}},
                  10);
  EXPECT_THAT(message_of<AuthError>([&] { ask(*client(kIdentity)); }), HasSubstr("not sent on"));
  EXPECT_TRUE(elsewhere.requests().empty());
}

TEST_F(Service, PostIsSentOnWithinThePlace) {
  service_.inject("POST", "/token", {.status = 308, .headers = {{"Location", "/token?again=1"}}}, 1);
  EXPECT_EQ(ask(*client(kIdentity)), 404);
  EXPECT_EQ(posts().size(), 2u);
  EXPECT_EQ(posts()[1].body, posts()[0].body);
}

TEST_F(Service, PasswordDoesNotFollowARedirectOfGet) {
  FakeRegistry elsewhere;
  elsewhere.serve("/token", [](const RecordedRequest&) { return R"({"token":"first-token"})"; });
  service_.inject("GET", "/token",
                  {.status = 307, .headers = {{"Location", "http://" + elsewhere.authority() + "/token"}}},
                  10);
  EXPECT_EQ(ask(*client()), 404);
  ASSERT_EQ(elsewhere.requests().size(), 1u);
  EXPECT_EQ(elsewhere.requests()[0].header("authorization"), "");
}

TEST_F(Service, IsAskedForAllScopesOfARequestAtOnce) {
  const auto opened = client();
  EXPECT_EQ(ask(*opened, Access::kPush, "acme/base"), 404);
  EXPECT_EQ(ask(*opened, Access::kPush, "acme/base"), 404);
  ASSERT_EQ(gets().size(), 1u);
  EXPECT_THAT(gets()[0].query, AllOf(HasSubstr("scope=repository%3aacme%2fapp%3apull%2cpush"),
                                     HasSubstr("scope=repository%3aacme%2fbase%3apull")));
  EXPECT_EQ(ask(*opened, Access::kPush), 404);
  EXPECT_EQ(gets().size(), 2u) << "another set of scopes is another token";
}

TEST_F(Service, MissingScopeIsAddedOnce) {
  const auto opened = client();
  EXPECT_EQ(ask(*opened), 404);
  for (const int status : {401, 403}) {
    const size_t asked = gets().size();
    registry_.inject(
        "GET", "/manifests/",
        challenge(status, realm() + R"(,error="insufficient_scope",scope="repository:acme/app:pull,push")"));
    EXPECT_EQ(ask(*opened), 404);
    EXPECT_EQ(gets().size(), status == 401 ? asked + 1 : asked) << "the wider token is kept";
    EXPECT_THAT(gets().back().query, HasSubstr("pull%2cpush"));
  }
}

TEST_F(Service, MissingScopeThatHelpedIsAskedForAtOnceLater) {
  const auto opened = client();
  registry_.put_manifest("t", std::string(media_type::kOciManifest), sample_manifest());
  registry_.inject("GET", "/manifests/", challenge(401, realm()));
  registry_.inject(
      "GET", "/manifests/",
      challenge(403, realm() + R"(,error="insufficient_scope",scope="repository:acme/app:delete")"));
  EXPECT_EQ(ask(*opened, Access::kPush), 200);
  EXPECT_EQ(registry_.requests("GET", "/manifests/").size(), 3u);
  EXPECT_EQ(ask(*opened, Access::kPush, "acme/base"), 200);
  EXPECT_THAT(gets().back().query,
              AllOf(HasSubstr("acme%2fapp%3apull%2cpush%2cdelete"), HasSubstr("acme%2fbase%3apull")));
  EXPECT_EQ(ask(*opened), 200);
  EXPECT_THAT(gets().back().query, Not(HasSubstr("delete"))) << "reads need less";
}

TEST_F(Service, RegistryThatNamesTheSameScopeAgainIsBelievedOnce) {
  registry_.inject(
      "GET", "/manifests/",
      challenge(403, realm() + R"(,error="insufficient_scope",scope="repository:acme/app:push")"), 10);
  EXPECT_THROW(ask(*client()), AuthError);
  EXPECT_EQ(registry_.requests("GET", "/manifests/").size(), 2u);
}

TEST_F(Service, NoTokenIsAskedForAForeignScope) {
  for (const char* scope : {"registry:catalog:*", "repository:other/app:pull", "repository:acme/app:*"}) {
    const auto opened = client();
    EXPECT_EQ(ask(*opened), 404);
    const size_t asked = gets().size();
    registry_.inject(
        "GET", "/manifests/",
        challenge(403, fmt::format("{},error=\"insufficient_scope\",scope=\"{}\"", realm(), scope)));
    EXPECT_THROW(ask(*opened), AuthError) << scope;
    EXPECT_EQ(gets().size(), asked);
  }
}

TEST_F(Service, ForbiddenWithoutAScopeIsFinal) {
  const auto opened = client();
  EXPECT_EQ(ask(*opened), 404);
  registry_.inject("GET", "/manifests/", challenge(403, realm()));
  EXPECT_THROW(ask(*opened), AuthError);
  EXPECT_EQ(gets().size(), 1u);
}

TEST_F(Service, TokenPastItsLifeThatGets400IsRenewed) {
  issue(R"({"token":"first-token","expires_in":10})");
  const auto opened = client();
  EXPECT_EQ(ask(*opened), 404);
  now_ += std::chrono::seconds(11);
  registry_.inject("GET", "/manifests/", {.status = 400});
  issue(R"({"token":"second-token","expires_in":10})", "second-token");
  EXPECT_EQ(ask(*opened), 404);
  EXPECT_EQ(gets().size(), 2u);
}

TEST_F(Service, BadRequestWithALiveTokenIsAnError) {
  const auto opened = client();
  EXPECT_EQ(ask(*opened), 404);
  registry_.inject("GET", "/manifests/", {.status = 400});
  EXPECT_THROW(ask(*opened), StatusError);
  EXPECT_EQ(gets().size(), 1u);
}

TEST_F(Service, CredentialIsLookedForOnceWhenTheRegistryAsks) {
  std::atomic<int> searches{0};
  ClientOptions options;
  options.find_credential = [&](const std::stop_token&) {
    ++searches;
    return std::optional(kUser);
  };
  const auto opened = client(options);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_EQ(ask(*opened), 404); });
  }
  EXPECT_EQ(searches, 1);
  EXPECT_EQ(gets().at(0).header("authorization"), basic_authorization(kUser.user, kUser.password));
}

TEST(CredentialSearch, DoesNotHappenWhereNobodyAsks) {
  ClientOptions options;
  options.find_credential = [](const std::stop_token&) -> std::optional<Credential> {
    throw UsageError("asked without need");
  };
  HttpFixture open({}, options);
  EXPECT_FALSE(open.repository->has_blob(id_of("x"), {}));
}

TEST(CredentialSearch, FailureReachesWhoeverNeedsIt) {
  int searches = 0;
  ClientOptions options;
  options.find_credential = [&](const std::stop_token&) -> std::optional<Credential> {
    ++searches;
    throw UsageError("the file is malformed");
  };
  HttpFixture closed({.authorization = basic_authorization("user", "word")}, options);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(message_of<UsageError>([&] { closed.repository->has_blob(id_of("x"), {}); }),
                HasSubstr("the file is malformed"));
  }
  EXPECT_EQ(searches, 1) << "a user is not asked again";
}

TEST(CredentialSearch, IdentityTokenIsNoPassword) {
  HttpFixture closed({.authorization = basic_authorization("user", "word")},
                     {.credential = Credential{"user", "", "id"}});
  EXPECT_THROW(closed.repository->has_blob(id_of("x"), {}), AuthError);
  EXPECT_EQ(closed.registry.requests().size(), 1u);
}

}  // namespace
}  // namespace obd::registry::test
