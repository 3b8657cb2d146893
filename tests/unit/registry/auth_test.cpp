#include "registry/auth.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::RecordedRequest;
using testing::HasSubstr;
using testing::Not;

const Credential kUser{"user", "pa:55word"};
const std::string kBasic = basic_authorization("user", "pa:55word");

/// A registry that wants tokens, the service that issues them, and a clock.
class Tokens : public testing::Test {
 protected:
  Tokens() { issue(R"({"token":"first-token","expires_in":300})"); }

  /// The service answers so from now on; the registry accepts `granted`.
  void issue(const std::string& answer, const std::string& granted = "first-token") {
    service_.serve("/token", [answer](const RecordedRequest&) { return answer; });
    registry_.grant(granted);
  }
  std::unique_ptr<HttpRepository> open(std::optional<Credential> credential = kUser) {
    return std::make_unique<HttpRepository>(
        parse_repository_name(registry_.authority() + "/acme/app"),
        HttpRepository::Options{.client = {.credential = std::move(credential),
                                           .plain_http = true,
                                           .retry = quick_retries(),
                                           .now = [this] { return now_; }},
                                .work_directory = work_.path(),
                                .spool_memory_bytes = 1 << 20});
  }
  std::vector<RecordedRequest> asked() const { return service_.requests("GET", "/token"); }

  TemporaryDirectory work_;
  FakeRegistry service_;
  FakeRegistry registry_{{.token_realm = "http://" + service_.authority() + "/token"}};
  std::chrono::steady_clock::time_point now_;
};

TEST_F(Tokens, AreFetchedOnceForEachScope) {
  const auto repository = open();
  push_text(*repository, "content");
  push_text(*repository, "more");
  EXPECT_TRUE(repository->has_blob(id_of("content"), {}));
  EXPECT_EQ(pull_text(*repository, id_of("more")), "more");
  ASSERT_EQ(asked().size(), 2u);
  EXPECT_THAT(asked()[0].query, HasSubstr("service=fake"));
  EXPECT_THAT(asked()[0].query, HasSubstr("scope=repository%3aacme%2fapp%3apull%2cpush"));
  EXPECT_THAT(asked()[1].query, testing::EndsWith("%3apull"));
  EXPECT_EQ(asked()[0].header("authorization"), kBasic);
}

TEST_F(Tokens, PasswordGoesToTheServiceAlone) {
  const auto repository = open();
  push_text(*repository, "content");
  for (const RecordedRequest& request : registry_.requests()) {
    EXPECT_THAT(request.header("authorization"), testing::AnyOf("", "Bearer first-token"));
  }
}

TEST_F(Tokens, AnonymousUsersGetThemToo) {
  registry_.put_blob(Digest::of("content").text(), "content");
  EXPECT_EQ(pull_text(*open(std::nullopt), id_of("content")), "content");
  EXPECT_EQ(asked().at(0).header("authorization"), "");
}

TEST_F(Tokens, AreFoundAsAccessTokenToo) {
  issue(R"({"access_token":"first-token"})");
  EXPECT_FALSE(open()->has_blob(id_of("x"), {}));
}

TEST_F(Tokens, AreRenewedWhenTheRegistryRefusesThem) {
  const auto repository = open();
  push_text(*repository, "content");
  issue(R"({"token":"second-token"})", "second-token");
  push_text(*repository, noise(1'500'000));
  EXPECT_EQ(asked().size(), 2u);
  EXPECT_TRUE(registry_.blob(Digest::of(noise(1'500'000)).text()));
}

TEST_F(Tokens, AreRenewedByTheClockBeforeTheyEnd) {
  const auto repository = open();
  EXPECT_FALSE(repository->has_blob(id_of("x"), {}));
  now_ += std::chrono::seconds(200);
  EXPECT_FALSE(repository->has_blob(id_of("x"), {}));
  EXPECT_EQ(asked().size(), 1u);
  now_ += std::chrono::seconds(60);
  EXPECT_FALSE(repository->has_blob(id_of("x"), {}));
  EXPECT_EQ(asked().size(), 2u);
  EXPECT_EQ(registry_.requests("HEAD", "").size(), 4u) << "only the first was refused";
}

TEST_F(Tokens, LiveAtLeastAMinuteWhateverTheServiceSays) {
  issue(R"({"token":"first-token","expires_in":0})");
  const auto repository = open();
  EXPECT_FALSE(repository->has_blob(id_of("x"), {}));
  now_ += std::chrono::seconds(40);
  EXPECT_FALSE(repository->has_blob(id_of("x"), {}));
  EXPECT_EQ(asked().size(), 1u);
}

TEST_F(Tokens, ThatAreNeverAcceptedEndInAnAuthError) {
  registry_.grant("something-else");
  const std::string message = message_of<AuthError>([&] { open()->pull_manifest("t", {}); });
  EXPECT_THAT(message, HasSubstr("401"));
  EXPECT_THAT(message, Not(HasSubstr("first-token")));
  EXPECT_LE(asked().size(), 2u);
}

TEST_F(Tokens, ManyThreadsFetchOne) {
  const auto repository = open();
  EXPECT_FALSE(repository->has_blob(id_of("x"), {}));
  now_ += std::chrono::hours(1);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] { EXPECT_FALSE(repository->has_blob(id_of("x"), {})); });
    }
  }
  EXPECT_EQ(asked().size(), 2u);
}

TEST_F(Tokens, UselessAnswersAreRefused) {
  for (const char* answer : {R"({})", R"({"token":""})", R"({"token":7})", R"({"token":"a\r\nX-Evil: 1"})"}) {
    issue(answer);
    EXPECT_THROW(open()->has_blob(id_of("x"), {}), AuthError) << answer;
  }
  issue("no json");
  EXPECT_THROW(open()->has_blob(id_of("x"), {}), DataError);
  issue(R"({"token":")" + std::string(2 << 20, 'a') + "\"}");
  EXPECT_THROW(open()->has_blob(id_of("x"), {}), DataError);
}

TEST_F(Tokens, RefusalOfTheServiceIsAnAuthErrorWithoutThePassword) {
  service_.inject(
      "GET", "/token",
      {.status = 401, .body = fmt::format(R"({{"details":"user sent {} which is pa:55word"}})", kBasic)}, 10);
  const std::string message = message_of<AuthError>([&] { open()->has_blob(id_of("x"), {}); });
  EXPECT_THAT(message, HasSubstr("user sent"));
  EXPECT_THAT(message, Not(HasSubstr("pa:55word")));
  EXPECT_THAT(message, Not(HasSubstr(kBasic.substr(6))));
}

TEST_F(Tokens, ServiceThatIsOverloadedIsWaitedFor) {
  service_.inject("GET", "/token", {.status = 503});
  EXPECT_FALSE(open()->has_blob(id_of("x"), {}));
}

TEST_F(Tokens, ServiceMustHaveAnAddressThatMayBeAsked) {
  for (const char* realm : {"", "file:///etc/passwd", "http://user:x@127.0.0.1/"}) {
    registry_.inject(
        "", "",
        {.status = 401, .headers = {{"WWW-Authenticate", fmt::format("Bearer realm=\"{}\"", realm)}}});
    EXPECT_THROW(open()->has_blob(id_of("x"), {}), AuthError) << realm;
  }
}

TEST(TokenService, IsNotAskedOverHttpByAnHttpsRegistry) {
  Transport transport({});
  Authenticator authenticator(transport,
                              {.repository = "a", .credential = kUser, .retry = quick_retries(), .now = [] {
                                 return std::chrono::steady_clock::time_point();
                               }});
  HttpResponse response{.status = 401,
                        .headers = {{"www-authenticate", "Bearer realm=\"http://127.0.0.1:1/token\""}}};
  response.url = Url::parse("https://registry.example/v2/");
  ScopeSet scopes = ScopeSet::for_access("a", Access::kPull);
  EXPECT_TRUE(authenticator.learn(response, std::nullopt, scopes, {}));
  EXPECT_THAT(message_of<AuthError>([&] { authenticator.authorization(scopes, {}); }), HasSubstr("https"));
}

TEST_F(Tokens, OfAnAuthFileGoToTheRegistryItself) {
  registry_.grant("given-token");
  const auto repository =
      open(Credential{.user = "user", .password = "pa:55word", .registry_token = "given-token"});
  push_text(*repository, "content");
  EXPECT_EQ(pull_text(*repository, id_of("content")), "content");
  EXPECT_TRUE(service_.requests().empty());
  const auto requests = registry_.requests();
  EXPECT_EQ(requests.at(0).header("authorization"), "") << "it is not sent before it is asked for";
  for (size_t i = 1; i < requests.size(); ++i)
    EXPECT_EQ(requests[i].header("authorization"), "Bearer given-token");
}

TEST_F(Tokens, OfAnAuthFileAreNotShownNorSentTwiceWhenRefused) {
  registry_.inject(
      "GET", "", {.status = 401, .headers = {{"WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/\""}}});
  registry_.inject("GET", "",
                   {.status = 401,
                    .headers = {{"WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/\""}},
                    .body = R"({"errors":[{"code":"UNAUTHORIZED","message":"given-token has ended"}]})"},
                   10);
  const auto repository = open(Credential{.registry_token = "given-token"});
  const std::string message = message_of<AuthError>([&] { repository->pull_manifest("t", {}); });
  EXPECT_THAT(message, HasSubstr("*** has ended"));
  EXPECT_THAT(message, Not(HasSubstr("given-token")));
  EXPECT_EQ(registry_.requests().size(), 2u);
}

TEST_F(Tokens, OfAnAuthFileFollowNoRedirectElsewhere) {
  FakeRegistry storage;
  storage.put_blob(Digest::of("content").text(), "content");
  registry_.grant("given-token");
  registry_.redirect(
      "GET", "/blobs/",
      fmt::format("http://{}/v2/a/blobs/{}", storage.authority(), Digest::of("content").text()));
  EXPECT_EQ(pull_text(*open(Credential{.registry_token = "given-token"}), id_of("content")), "content");
  for (const RecordedRequest& request : storage.requests()) EXPECT_EQ(request.header("authorization"), "");
}

TEST(BasicLogin, IsSentOnlyWhenAskedFor) {
  HttpFixture open({}, {.credential = kUser});
  EXPECT_FALSE(open.repository->has_blob(id_of("x"), {}));
  for (const RecordedRequest& request : open.registry.requests())
    EXPECT_EQ(request.header("authorization"), "");

  HttpFixture closed({.authorization = basic_authorization("user", "pa:55word")}, {.credential = kUser});
  push_text(*closed.repository, "content");
  EXPECT_EQ(pull_text(*closed.repository, id_of("content")), "content");
  const auto requests = closed.registry.requests();
  EXPECT_EQ(requests.at(0).header("authorization"), "");
  for (size_t i = 1; i < requests.size(); ++i) EXPECT_EQ(requests[i].header("authorization"), kBasic);
}

TEST(BasicLogin, WrongPasswordIsAskedAboutOnce) {
  HttpFixture fixture({.authorization = basic_authorization("user", "other")}, {.credential = kUser});
  const std::string message = message_of<AuthError>([&] { push_text(*fixture.repository, "content"); });
  EXPECT_THAT(message, HasSubstr("not accepted"));
  EXPECT_THAT(message, Not(HasSubstr("55word")));
  EXPECT_EQ(fixture.registry.requests().size(), 2u);
}

TEST(BasicLogin, MissingPasswordIsExplained) {
  HttpFixture fixture({.authorization = basic_authorization("user", "other")});
  EXPECT_THAT(message_of<AuthError>([&] { fixture.repository->pull_manifest("t", {}); }), HasSubstr("login"));
}

TEST(Errors, NeverRepeatWhatWasSent) {
  HttpFixture fixture({.authorization = basic_authorization("user", "pa:55word")}, {.credential = kUser});
  fixture.registry.inject("GET", "", {.status = 200, .body = "{}"}, 0);
  EXPECT_FALSE(fixture.repository->has_blob(id_of("x"), {}));
  fixture.registry.inject(
      "GET", "/manifests/",
      {.status = 403,
       .body = fmt::format(R"({{"errors":[{{"code":"DENIED","message":"Authorization: {} {}pa:55word"}}]}})",
                           kBasic, std::string(290, 'x'))});
  const std::string message = message_of<AuthError>([&] { fixture.repository->pull_manifest("t", {}); });
  EXPECT_THAT(message, HasSubstr("DENIED"));
  EXPECT_THAT(message, HasSubstr("***"));
  EXPECT_THAT(message, Not(HasSubstr(kBasic.substr(6))));
  EXPECT_THAT(message, Not(HasSubstr("pa:5")));
}

}  // namespace
}  // namespace obd::registry::test
