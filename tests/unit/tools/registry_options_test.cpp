#include "tools/registry_options.h"

#include <gmock/gmock.h>

#include <sstream>

#include "tools/cli.h"

namespace obd::tools {
namespace {

using Arguments = std::vector<std::string>;
using registry::Credential;
using registry::RepositoryOptions;
using testing::HasSubstr;

cxxopts::ParseResult parse(const Arguments& args) {
  cxxopts::Options options("test");
  for (const RegistrySide side : {RegistrySide::kCommon, RegistrySide::kSource, RegistrySide::kTarget}) {
    add_registry_options(options, "Registry", side);
  }
  return parse_options(options, args);
}

RepositoryOptions read(const Arguments& args, RegistrySide side = RegistrySide::kCommon,
                       const std::string& in = "") {
  std::istringstream stream(in);
  return read_registry_options(parse(args), side, stream);
}

std::string usage_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UsageError";
  return {};
}

TEST(RegistryOptions, AreWhatTheyWereBeforeWhereNothingIsGiven) {
  EXPECT_EQ(read({}), RepositoryOptions());
}

TEST(RegistryOptions, OfEachSideAreItsOwn) {
  const Arguments args = {"--plain",
                          "-u",
                          "me:a:b",
                          "--src-username",
                          "you:",
                          "--dest-insecure",
                          "--src-root-ca",
                          "a.crt",
                          "--src-root-ca",
                          "b,c.crt",
                          "--dest-cert-dir",
                          "certs",
                          "--dest-client-cert",
                          "c:k"};
  const RepositoryOptions common = read(args);
  EXPECT_TRUE(common.plain_http);
  EXPECT_EQ(common.credential, (Credential{"me", "a:b"}));
  EXPECT_EQ(common.tls, registry::TlsOptions());
  const RepositoryOptions source = read(args, RegistrySide::kSource);
  EXPECT_FALSE(source.plain_http);
  EXPECT_EQ(source.credential, (Credential{"you", ""}));
  EXPECT_THAT(source.tls.root_cas, testing::ElementsAre("a.crt", "b,c.crt"));
  const RepositoryOptions target = read(args, RegistrySide::kTarget);
  EXPECT_EQ(target.credential, std::nullopt);
  EXPECT_EQ(target.tls, (registry::TlsOptions{
                            .cert_dirs = {"certs"}, .client_certificates = {{"c", "k"}}, .insecure = true}));
}

TEST(RegistryOptions, PasswordComesFromStandardInputWithoutItsLineEnd) {
  for (const auto& [in, password] : std::vector<std::pair<std::string, std::string>>{
           {"word", "word"}, {"word\n", "word"}, {"word\r\n", "word"}, {" a\nb \n\n", " a\nb \n"}}) {
    EXPECT_EQ(read({"-u", "me", "--password-stdin"}, RegistrySide::kCommon, in).credential->password,
              password);
  }
  EXPECT_EQ(read({"--dest-username", "me", "--dest-password-stdin"}, RegistrySide::kTarget, "x").credential,
            (Credential{"me", "x"}));
}

TEST(RegistryOptions, WhatDoesNotGoTogetherIsRefused) {
  EXPECT_THAT(usage_error([] { read({"--password-stdin"}); }), HasSubstr("goes with --username"));
  EXPECT_THAT(usage_error([] {
                read({"--src-password-stdin", "-u", "me"}, RegistrySide::kSource);
              }),
              HasSubstr("goes with --src-username"));
  EXPECT_THAT(usage_error([] {
                read({"-u", "me:secret", "--password-stdin"});
              }),
              testing::AllOf(HasSubstr("has a password already"), testing::Not(HasSubstr("secret"))));
  EXPECT_THAT(usage_error([] { read({"-u", "me", "--password-stdin"}); }), HasSubstr("no password"));
  EXPECT_THAT(usage_error([] { read({"-u", "me"}); }), HasSubstr("--password-stdin"));
  EXPECT_THAT(usage_error([] {
                read({"-u", "me", "--password-stdin"}, RegistrySide::kCommon, std::string(1 << 20, 'x'));
              }),
              HasSubstr("too long"));
  EXPECT_THAT(usage_error([] {
                check_password_stdin(parse({"--src-password-stdin", "--dest-password-stdin"}));
              }),
              HasSubstr("only one"));
  check_password_stdin(parse({"--src-password-stdin"}));
  for (const char* pair : {"cert", ":key", "cert:"}) {
    EXPECT_THAT(usage_error([&] { read({"--client-cert", pair}); }), HasSubstr("CERT:KEY"));
  }
}

TEST(RegistryOptions, CommonOnesAreAddedToThoseOfASide) {
  const RepositoryOptions common{
      .credential = Credential{"me", "a"}, .plain_http = true, .tls = {.root_cas = {"common.crt"}}};
  const RepositoryOptions own{.tls = {.root_cas = {"own.crt"}, .insecure = true}};
  const RepositoryOptions merged = merge_registry_options(common, own, true);
  EXPECT_TRUE(merged.plain_http);
  EXPECT_TRUE(merged.tls.insecure);
  EXPECT_THAT(merged.tls.root_cas, testing::ElementsAre("own.crt", "common.crt"));
  EXPECT_EQ(merged.credential, common.credential);
  EXPECT_EQ(merge_registry_options(common, own, false).credential, std::nullopt) << "another host's";
  EXPECT_EQ(merge_registry_options(common, {.credential = Credential{"you", "b"}}, true).credential,
            (Credential{"you", "b"}));
}

TEST(RegistryOptions, WhatNoSideHasOptionsForIsCommon) {
  RepositoryOptions common = read({"--retry", "7", "--retry-delay", "0.25"});
  EXPECT_EQ(common.retry, (registry::RetryPolicy{.tries = 8, .first_delay = std::chrono::milliseconds(250)}));
  common.work_directory = "work";
  const RepositoryOptions merged = merge_registry_options(common, {}, true);
  EXPECT_EQ(merged.retry, common.retry);
  EXPECT_EQ(merged.work_directory, "work");
}

TEST(RegistryOptions, RetriesOutOfRangeAreRefused) {
  EXPECT_EQ(read({"--retry", "0"}).retry.tries, 1);
  EXPECT_THAT(usage_error([] { read({"--retry", "1001"}); }), HasSubstr("0 to 1000"));
  for (const char* seconds : {"-1", "3601", "nan"}) {
    EXPECT_THAT(usage_error([&] {
                  read({"--retry-delay", seconds});
                }),
                HasSubstr("--retry-delay"))
        << seconds;
  }
}

TEST(RegistryOptions, ForeignLayersAreReadOnlyOnRequest) {
  EXPECT_EQ(open_foreign_blobs(parse({}), {}), nullptr);
  EXPECT_NE(open_foreign_blobs(parse({"--allow-foreign-layers"}), {}), nullptr);
}

TEST(RegistryHost, IsWhatCredentialsBelongTo) {
  EXPECT_EQ(registry::registry_host("ubuntu"), "docker.io");
  EXPECT_EQ(registry::registry_host("registry-1.docker.io/a/b"), "docker.io");
  EXPECT_EQ(registry::registry_host("localhost:5000/a"), "localhost:5000");
  EXPECT_EQ(registry::registry_host("oci:./images"), "");
  EXPECT_EQ(registry::registry_host("oci:images"), "");
}

/// What `ps` would show.
Arguments hidden(Arguments args) {
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  hide_passwords(argv);
  return args;
}

TEST(HidePasswords, OverwritesThemInEveryForm) {
  using testing::ElementsAre;
  EXPECT_THAT(hidden({"convertor", "-u", "me:pa:ss", "-r", "host:5000/a"}),
              ElementsAre("convertor", "-u", "me:*****", "-r", "host:5000/a"));
  EXPECT_THAT(hidden({"x", "--username", "me:word", "--username=me:word", "-ume:word", "-u=me:word"}),
              ElementsAre("x", "--username", "me:****", "--username=me:****", "-ume:****", "-u=me:****"));
  EXPECT_THAT(hidden({"x", "--src-username", "me:word", "--dest-username=me:word", "-hu", "me:word"}),
              ElementsAre("x", "--src-username", "me:****", "--dest-username=me:****", "-hu", "me:****"));
}

TEST(HidePasswords, LeavesAllElseAlone) {
  const Arguments args = {"x",     "-u", "me", "-i", "a:b", "--usernames", "a:b", "--target-repository",
                          "h:1/u", "-u"};
  EXPECT_EQ(hidden(args), args);
  EXPECT_EQ(hidden({}), Arguments());
}

TEST(ParseOptions, ValueMayStandBehindItsLetter) {
  EXPECT_EQ(read({"-ume:word"}).credential, (Credential{"me", "word"}));
  EXPECT_EQ(read({"-u=me:word"}).credential, (Credential{"me", "word"}));
}

TEST(ParseOptions, UnknownOptionIsNamedWithoutItsValue) {
  for (const char* wrong : {"--usernme=me:secret", "-xme:secret", "--username:me:secret"}) {
    EXPECT_THAT(usage_error([&] { parse({wrong}); }), testing::Not(HasSubstr("secret"))) << wrong;
  }
}

}  // namespace
}  // namespace obd::tools
