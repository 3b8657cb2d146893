#include "registry/credentials.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

namespace fs = std::filesystem;
using Form = AuthFile::Form;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// An environment variable with another value for the length of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class Credentials : public testing::Test {
 protected:
  Credentials() : path_("PATH", (directory_.path().string() + ":/usr/bin:/bin").c_str()) {}

  AuthFile file(const std::string& text, Form form = Form::kContainers) {
    const fs::path path = directory_.path() / fmt::format("auth{}.json", next_++);
    std::ofstream(path) << text;
    return {path, form};
  }
  /// A helper that runs `script`; it finds its directory in $HERE.
  void helper(const std::string& name, const std::string& script) {
    const fs::path path = directory_.path() / ("docker-credential-" + name);
    std::ofstream(path) << fmt::format("#!/bin/sh\nHERE='{}'\n{}\n", directory_.path().string(), script);
    ::chmod(path.c_str(), 0755);
  }
  static std::optional<Credential> find(const std::string& repository, const std::vector<AuthFile>& files) {
    return find_credential(parse_repository_name(repository), files, {});
  }
  static std::string auth(const std::string& text) { return basic_authorization_of(text).substr(6); }
  static std::string basic_authorization_of(const std::string& text) {
    const size_t colon = text.find(':');
    return basic_authorization(text.substr(0, colon), text.substr(colon + 1));
  }
  static std::string entry(const std::string& text) { return fmt::format(R"({{"auth":"{}"}})", auth(text)); }

  TemporaryDirectory directory_;
  Variable path_;
  int next_ = 0;
};

TEST(Base64, IsStrict) {
  EXPECT_EQ(base64_decode(""), "");
  EXPECT_EQ(base64_decode("YQ=="), "a");
  EXPECT_EQ(base64_decode("YWI="), "ab");
  EXPECT_EQ(base64_decode("YWJj"), "abc");
  EXPECT_EQ(base64_decode("/+8="), "\xFF\xEF");
  for (const char* bad : {"Y", "YQ", "YQ=", "=", "====", "YQ==YQ==", "Y Q=", "Y-Q=", "YWJj\n"}) {
    EXPECT_EQ(base64_decode(bad).value_or("none"), "none") << bad;
  }
}

TEST_F(Credentials, ComeFromTheEntryOfTheHost) {
  const auto auths = file(fmt::format(R"({{"auths":{{"quay.io":{},"other.io:5000":{}}}}})", entry("me:pa:ss"),
                                      entry("you:word")));
  EXPECT_EQ(find("quay.io/a/b", {auths}), (Credential{"me", "pa:ss"}));
  EXPECT_EQ(find("other.io:5000/a", {auths}), (Credential{"you", "word"}));
  EXPECT_EQ(find("other.io/a", {auths}), std::nullopt) << "the port is part of the host";
  EXPECT_EQ(find("io/a", {auths}), std::nullopt);
}

TEST_F(Credentials, RegistryTokenIsOne) {
  const auto auths = file(R"({"auths":{"quay.io":{"registrytoken":"token"},"other.io":{}}})");
  EXPECT_EQ(find("quay.io/a", {auths}), (Credential{.registry_token = "token"}));
  EXPECT_EQ(find("other.io/a", {auths}), std::nullopt);
}

TEST_F(Credentials, MostSpecificEntryOfAContainersFileWins) {
  const std::string text =
      fmt::format(R"({{"auths":{{"quay.io":{},"quay.io/acme":{},"quay.io/acme/app":{}}}}})", entry("host:1"),
                  entry("namespace:2"), entry("repository:3"));
  const auto containers = file(text);
  EXPECT_EQ(find("quay.io/acme/app", {containers})->user, "repository");
  EXPECT_EQ(find("quay.io/acme/apple", {containers})->user, "namespace");
  EXPECT_EQ(find("quay.io/acme/app/deep", {containers})->user, "repository");
  EXPECT_EQ(find("quay.io/acmes/app", {containers})->user, "host");
  EXPECT_EQ(find("quay.io/acme/app", {file(text, Form::kDocker)})->user, "host")
      << "Docker knows hosts alone";
}

TEST_F(Credentials, OfDockersHubStandUnderItsOldAddress) {
  for (const char* key :
       {"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"}) {
    const auto auths = file(fmt::format(R"({{"auths":{{"{}":{}}}}})", key, entry("hub:word")), Form::kDocker);
    EXPECT_EQ(find("ubuntu", {auths}), (Credential{"hub", "word"})) << key;
    EXPECT_EQ(find("quay.io/ubuntu", {auths}), std::nullopt);
  }
  const auto both = file(fmt::format(R"({{"auths":{{"docker.io":{},"https://index.docker.io/v1/":{}}}}})",
                                     entry("new:1"), entry("old:2")),
                         Form::kDocker);
  EXPECT_EQ(find("ubuntu", {both})->user, "old") << "as Docker itself does";
}

TEST_F(Credentials, KeysOfOldHaveASchemeAndAPath) {
  for (const char* key : {"https://quay.io", "https://quay.io/v2/", "http://quay.io/v1"}) {
    for (const Form form : {Form::kDocker, Form::kContainers}) {
      const auto auths = file(fmt::format(R"({{"auths":{{"{}":{}}}}})", key, entry("me:word")), form);
      EXPECT_EQ(find("quay.io/a/b", {auths}), (Credential{"me", "word"})) << key;
    }
  }
}

TEST_F(Credentials, MayBeAnIdentityToken) {
  const auto auths =
      file(fmt::format(R"({{"auths":{{"acr.io":{{"auth":"{}","identitytoken":"long"}}}}}})", auth("0000:")));
  EXPECT_EQ(find("acr.io/a", {auths}), (Credential{"0000", "", "long"}));
}

TEST_F(Credentials, AnEmptyFileHasNone) {
  const AuthFile next = file(fmt::format(R"({{"auths":{{"quay.io":{{"auth":"{}"}}}}}})", auth("me:word")));
  EXPECT_EQ(find("quay.io/acme/app", {file(""), file(" \n"), next}), (Credential{"me", "word"}));
}

TEST_F(Credentials, OfTheFirstFileWinAndMissingFilesArePassedOver) {
  const auto first = file(fmt::format(R"({{"auths":{{"a.io":{}}}}})", entry("first:1")));
  const auto second =
      file(fmt::format(R"({{"auths":{{"a.io":{},"b.io":{}}}}})", entry("second:2"), entry("second:2")));
  const AuthFile missing{directory_.path() / "missing" / "auth.json"};
  EXPECT_EQ(find("a.io/x", {missing, first, second})->user, "first");
  EXPECT_EQ(find("b.io/x", {missing, first, second})->user, "second");
  EXPECT_EQ(find("c.io/x", {missing, first, second}), std::nullopt);
  EXPECT_THAT(message_of<UsageError>([&] {
                find("a.io/x", {{missing.path, Form::kContainers, true}});
              }),
              HasSubstr(missing.path.string()));
}

TEST_F(Credentials, MalformedFilesAreNamed) {
  for (const char* text :
       {"no json", "[]", "7", R"({"auths":[]})", R"({"auths":{"a.io":{"auth":"%%%"}}})",
        R"({"auths":{"a.io":{"auth":"YWJj"}}})", R"({"credHelpers":7})", R"({"credHelpers":{"a.io":7}})"}) {
    const auto bad = file(text);
    EXPECT_THAT(message_of<UsageError>([&] { find("a.io/x", {bad}); }), HasSubstr(bad.path.string())) << text;
  }
  EXPECT_EQ(find("a.io/x", {file(R"({"auths":{"b.io":{"auth":"%%%"}},"unknown":1})")}), std::nullopt);
}

TEST_F(Credentials, HelperOfTheHostIsAskedFirst) {
  helper("mine", R"(test "$1" = get || exit 9
cat > "$HERE/asked"
echo '{"ServerURL":"x","Username":"helped","Secret":"s3cret"}')");
  const auto auths =
      file(fmt::format(R"({{"auths":{{"a.io":{}}},"credHelpers":{{"a.io":"mine"}}}})", entry("me:word")));
  EXPECT_EQ(find("a.io/x", {auths}), (Credential{"helped", "s3cret"}));
  std::stringstream asked;
  asked << std::ifstream(directory_.path() / "asked").rdbuf();
  EXPECT_EQ(asked.str(), "a.io");
}

TEST_F(Credentials, HelperThatKnowsNoneIsNoError) {
  helper("empty", "cat >/dev/null\necho 'credentials not found in native keychain'\nexit 1");
  const auto auths = file(fmt::format(
      R"({{"auths":{{"a.io":{}}},"credHelpers":{{"a.io":"empty","b.io":"empty"}}}})", entry("me:word")));
  EXPECT_EQ(find("a.io/x", {auths})->user, "me");
  EXPECT_EQ(find("b.io/x", {auths}), std::nullopt);
}

TEST_F(Credentials, HelpersSayTokenByTheUserName) {
  helper("token", R"(echo '{"ServerURL":"x","Username":"<token>","Secret":"identity"}')");
  EXPECT_EQ(find("a.io/x", {file(R"({"credHelpers":{"a.io":"token"}})")}), (Credential{"", "", "identity"}));
}

TEST_F(Credentials, HelperOfTheHostThatFailsIsAnErrorWithItsWords) {
  helper("broken", "echo 'the key ring is locked'\nexit 3");
  const auto auths = file(R"({"credHelpers":{"a.io":"broken"}})");
  EXPECT_THAT(message_of<AuthError>([&] { find("a.io/x", {auths}); }),
              AllOf(HasSubstr("docker-credential-broken"), HasSubstr("a.io"),
                    HasSubstr("the key ring is locked"), HasSubstr(auths.path.string())));
  EXPECT_EQ(find("b.io/x", {auths}), std::nullopt);
}

TEST_F(Credentials, StoreThatFailsIsWarnedAbout) {
  helper("store", "echo 'no desktop'\nexit 1");
  const auto auths = file(R"({"auths":{"a.io":{}},"credsStore":"store"})", Form::kDocker);
  const CapturedLog log;
  EXPECT_EQ(find("a.io/x", {auths}), std::nullopt);
  EXPECT_EQ(find("a.io/x", {file(R"({"credsStore":"missing"})")}), std::nullopt);
  EXPECT_THAT(log.text(), AllOf(HasSubstr("no desktop"), HasSubstr("docker-credential-missing"),
                                HasSubstr(auths.path.string())));
}

TEST_F(Credentials, StoreIsAskedForTheHubByItsOldAddress) {
  helper("store",
         R"sh(test "$(cat)" = https://index.docker.io/v1/ && echo '{"Username":"hub","Secret":"word"}')sh");
  EXPECT_EQ(find("ubuntu", {file(R"({"auths":{},"credsStore":"store"})", Form::kDocker)}),
            (Credential{"hub", "word"}));
}

TEST_F(Credentials, HelperNamesArePlainFileNames) {
  for (const char* name : {"", "../x", "a/b", "a b", "a;id", "$(id)", "a\nb"}) {
    EXPECT_THROW(ask_credential_helper(name, "a.io", {}), UsageError) << name;
  }
}

TEST_F(Credentials, HelperAnswersNonsense) {
  for (const char* answer : {"", "secret nonsense", "[]", "{}", R"({"Username":"u"})", R"({"Secret":7})"}) {
    helper("odd", fmt::format("cat >/dev/null\nprintf '%s' '{}'", answer));
    EXPECT_THAT(message_of<AuthError>([&] { ask_credential_helper("odd", "a.io", {}); }),
                AllOf(HasSubstr("docker-credential-odd"), Not(HasSubstr("secret nonsense"))))
        << answer;
  }
}

TEST_F(Credentials, WordsOfAHelperHoldNoSecretAndNoControlCharacters) {
  helper("chatty", R"(echo '{"Username":"u","Secret":"s3cret"}'; exit 1)");
  EXPECT_THAT(message_of<AuthError>([&] { ask_credential_helper("chatty", "a.io", {}); }),
              Not(HasSubstr("s3cret")));
  helper("rude", R"(printf '\033[31mred\nline %1000d' 7 >&2; exit 1)");
  const std::string message = message_of<AuthError>([&] { ask_credential_helper("rude", "a.io", {}); });
  EXPECT_THAT(message, HasSubstr("red line"));
  EXPECT_EQ(message.find('\033'), std::string::npos);
  EXPECT_LT(message.size(), 500u);
}

TEST_F(Credentials, HelperIsBoundedInSizeAndTime) {
  helper("endless", "yes");
  EXPECT_THROW(ask_credential_helper("endless", "a.io", {}, {.max_answer_bytes = 10'000}), AuthError);
  helper("slow", "exec sleep 1000");
  const HelperLimits quick{.timeout = std::chrono::milliseconds(50)};
  EXPECT_THAT(message_of<AuthError>([&] { ask_credential_helper("slow", "a.io", {}, quick); }),
              HasSubstr("within 50 ms"));
  helper("quiet", "exec >&- 2>&-\nexec sleep 1000");
  EXPECT_THROW(ask_credential_helper("quiet", "a.io", {}, quick), AuthError);
}

TEST_F(Credentials, HelperIsKilledWhenStopped) {
  helper("slow", "echo $$ > \"$HERE/pid\"\nexec sleep 1000");
  std::stop_source stop;
  const std::jthread stopper([&] {
    while (!fs::exists(directory_.path() / "pid") || fs::file_size(directory_.path() / "pid") == 0) {
      std::this_thread::yield();
    }
    stop.request_stop();
  });
  EXPECT_THROW(ask_credential_helper("slow", "a.io", stop.get_token()), Cancelled);
  pid_t pid = 0;
  std::ifstream(directory_.path() / "pid") >> pid;
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST_F(Credentials, HelperInheritsNoFile) {
  const int open = ::dup(0);  // not marked to be closed
  helper("files", R"(ls /proc/self/fd | tr '\n' ' ' >&2; exit 1)");
  const std::string message = message_of<AuthError>([&] { ask_credential_helper("files", "a.io", {}); });
  ::close(open);
  EXPECT_THAT(message, HasSubstr("0 1 2 3")) << "3 is the directory that ls reads";
  EXPECT_THAT(message, Not(HasSubstr("3 4")));
}

TEST_F(Credentials, FilesOfTheEnvironmentComeInOrder) {
  const Variable home("HOME", "/home/me");
  const Variable runtime("XDG_RUNTIME_DIR", "/run/me");
  const Variable config("XDG_CONFIG_HOME", nullptr);
  const Variable docker("DOCKER_CONFIG", nullptr);
  const auto paths = [] {
    std::vector<std::string> found;
    for (const AuthFile& each : auth_files_of_environment()) found.push_back(each.path.string());
    return found;
  };
  using testing::ElementsAre;
  {
    const Variable named("REGISTRY_AUTH_FILE", nullptr);
    EXPECT_THAT(paths(), ElementsAre("/run/me/containers/auth.json", "/home/me/.config/containers/auth.json",
                                     "/home/me/.docker/config.json"));
    const Variable elsewhere("XDG_CONFIG_HOME", "/config");
    const Variable moved("DOCKER_CONFIG", "/docker");
    const Variable none("XDG_RUNTIME_DIR", "");
    EXPECT_THAT(paths(), ElementsAre("/config/containers/auth.json", "/docker/config.json"));
  }
  const Variable named("REGISTRY_AUTH_FILE", "/named.json");
  EXPECT_EQ(paths().front(), "/named.json");
  EXPECT_TRUE(auth_files_of_environment().front().required);
  EXPECT_FALSE(auth_files_of_environment().back().required);
  EXPECT_EQ(auth_files_of_environment().back().form, Form::kDocker);
}

TEST_F(Credentials, AreUsedForARegistryThatAsks) {
  obd::test::FakeRegistry registry({.authorization = basic_authorization("me", "word")});
  registry.put_manifest("t", std::string(media_type::kOciManifest), sample_manifest());
  const auto auths = file(fmt::format(R"({{"auths":{{"{}":{}}}}})", registry.authority(), entry("me:word")));
  const Variable named("REGISTRY_AUTH_FILE", auths.path.c_str());
  const auto repository = open_repository(registry.authority() + "/acme/app", {.plain_http = true});
  EXPECT_EQ(repository->pull_manifest("t", {}).bytes, sample_manifest());
}

}  // namespace
}  // namespace obd::registry::test
