#include "registry/proxy.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <array>
#include <cstdlib>

#include "registry/transport.h"
#include "tests/support/scripted_server.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// Answers what a proxy is asked, and remembers it.
class ProxyTest : public testing::Test {
 protected:
  ProxyTest() {
    for (const char* name : kNames) ::unsetenv(name);
    for (const char* url : {"http://registry.invalid/v2/", "http://elsewhere.invalid/v2/"}) {
      proxy_.serve(url, [](const auto&) { return "through the proxy"; });  // proxies are asked for whole URLs
    }
  }
  ~ProxyTest() override {
    for (const char* name : kNames) ::unsetenv(name);
  }
  static std::string get(const std::string& url) {
    Transport transport({.connect_timeout = std::chrono::seconds(2)});
    return transport.exchange({.method = "GET", .url = Url::parse(url)}, {}).body;
  }
  void name_by(const char* variable) const {
    ::setenv(variable, ("http://" + proxy_.authority()).c_str(), 1);
  }

  static constexpr std::array kNames = {"http_proxy",  "HTTP_PROXY",     "https_proxy",
                                        "HTTPS_PROXY", "all_proxy",      "ALL_PROXY",
                                        "NO_PROXY",    "REQUEST_METHOD", "no_proxy"};
  FakeRegistry proxy_;
};

TEST_F(ProxyTest, OfTheEnvironmentIsUsed) {
  for (const char* variable : {"http_proxy", "HTTP_PROXY", "ALL_PROXY"}) {
    name_by(variable);
    EXPECT_EQ(get("http://registry.invalid/v2/"), "through the proxy") << variable;
    EXPECT_EQ(proxy_.requests().back().header("host"), "registry.invalid");
    ::unsetenv(variable);
  }
}

TEST_F(ProxyTest, OfHttpsIsAskedForATunnel) {
  const auto failure = [] { return message_of<TransportError>([] { get("https://registry.invalid/v2/"); }); };
  name_by("HTTPS_PROXY");
  EXPECT_THAT(failure(), HasSubstr("CONNECT")) << "which this server does not know";
  ::unsetenv("HTTPS_PROXY");
  name_by("HTTP_PROXY");
  EXPECT_THAT(failure(), testing::Not(HasSubstr("CONNECT")));
}

TEST_F(ProxyTest, IsNotUsedForThisMachine) {
  FakeRegistry registry;
  registry.serve("/v2/", [](const auto&) { return "direct"; });
  name_by("HTTP_PROXY");
  name_by("http_proxy");
  EXPECT_EQ(get("http://" + registry.authority() + "/v2/"), "direct");
  EXPECT_TRUE(proxy_.requests().empty());
}

TEST_F(ProxyTest, IsNotUsedForWhatNoProxyNames) {
  name_by("HTTP_PROXY");
  ::setenv("NO_PROXY", "other.invalid,.registry.invalid", 1);
  EXPECT_THROW(get("http://a.registry.invalid/v2/"), TransportError);
  EXPECT_TRUE(proxy_.requests().empty());
  EXPECT_EQ(get("http://elsewhere.invalid/v2/"), "through the proxy");
}

TEST_F(ProxyTest, FromAWebServersClientIsNotBelieved) {
  name_by("HTTP_PROXY");
  ::setenv("REQUEST_METHOD", "GET", 1);
  EXPECT_THROW(get("http://registry.invalid/v2/"), TransportError);
  EXPECT_TRUE(proxy_.requests().empty());
}

TEST_F(ProxyTest, ItsPasswordIsInNoError) {
  for (const char* value :
       {"foo://us3r:pa55word@proxy.invalid:1", "http://us3r:pa55word@proxy.invalid:port",
        "http://us3r:1/pa55word@h:1", "http://us3r:pa55word@", "http://us3r:pa55#word@h:1",
        "us3r:pa55@word@proxy.invalid:1", "http://pa55word?us3r@h", "http://us3r:pa55word@proxy.invalid",
        "us3r:pa55word@proxy.invalid", "socks5h://us3r:pa55word@127.0.0.1:1",
        "https://us3r:pa55word@127.0.0.1:1"}) {
    ::setenv("HTTP_PROXY", value, 1);
    EXPECT_THAT(message_of<TransportError>([] { get("http://registry.invalid/"); }),
                AllOf(HasSubstr("HTTP_PROXY"), Not(HasSubstr("us3r")), Not(HasSubstr("pa55")),
                      Not(HasSubstr("word@"))))
        << value;
  }
}

TEST_F(ProxyTest, ThatIsOutOfReachIsNamed) {
  ::setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1);
  EXPECT_THAT(message_of<TransportError>([] { get("https://registry.invalid/"); }),
              HasSubstr("the proxy 127.0.0.1:1 (HTTPS_PROXY) could not be reached"));
  ::unsetenv("HTTPS_PROXY");
  ::setenv("all_proxy", "proxy.invalid", 1);
  EXPECT_THAT(message_of<TransportError>([] { get("https://registry.invalid/"); }),
              HasSubstr("the proxy proxy.invalid (all_proxy) could not be reached"));
}

TEST_F(ProxyTest, ThatRefusesATunnelIsNotAskedAgain) {
  const auto failure = [](int status, const std::string& login) {
    obd::test::ScriptedServer proxy([&](obd::test::Conversation& client) {
      client.read_head();
      client.write(
          fmt::format("HTTP/1.1 {} No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", status));
      client.wait_for_end();
    });
    ::setenv("HTTPS_PROXY", fmt::format("http://{}{}", login, proxy.authority()).c_str(), 1);
    try {
      get("https://registry.invalid/");
    } catch (const TransportError& error) {
      return fmt::format("{}{}", error.retryable() ? "later: " : "", error.what());
    }
    return std::string("none");
  };
  EXPECT_THAT(failure(407, ""), AllOf(HasSubstr("(HTTPS_PROXY) refused"), HasSubstr("it wants a login"),
                                      Not(HasSubstr("later:"))));
  EXPECT_THAT(failure(407, "us3r:pa55word@"),
              AllOf(HasSubstr("does not accept the login in HTTPS_PROXY"), Not(HasSubstr("pa55word"))));
  EXPECT_THAT(failure(403, ""),
              AllOf(HasSubstr("(HTTPS_PROXY) refused"), HasSubstr("NO_PROXY"), Not(HasSubstr("later:"))));
  EXPECT_THAT(failure(502, ""), AllOf(HasSubstr("later:"), HasSubstr("could not connect us")));
}

TEST_F(ProxyTest, OfASchemeThatIsUnknownIsRefused) {
  ::setenv("HTTPS_PROXY", "ftp://proxy.invalid", 1);
  EXPECT_THAT(message_of<TransportError>([] { proxy_for(Url::parse("https://registry.invalid/")); }),
              HasSubstr("socks5h"));
  EXPECT_EQ(proxy_for(Url::parse("http://registry.invalid/")), std::nullopt);
}

TEST_F(ProxyTest, EmptyVariablesCountAsUnset) {
  ::setenv("https_proxy", "", 1);
  ::setenv("no_proxy", "", 1);
  ::setenv("HTTPS_PROXY", "proxy.invalid:3128", 1);
  const auto proxy = proxy_for(Url::parse("https://registry.invalid/"));
  ASSERT_TRUE(proxy);
  EXPECT_EQ(proxy->host, "proxy.invalid:3128");
  ::setenv("NO_PROXY", "registry.invalid:443", 1);
  EXPECT_FALSE(proxy_for(Url::parse("https://registry.invalid/")));
  EXPECT_TRUE(proxy_for(Url::parse("https://registry.invalid:5000/")));
}

TEST(NoProxy, NamesHostsDomainsAddressesAndPorts) {
  struct Case {
    const char* list;
    const char* host;
    bool named;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"*", "a.example", true},
           {"example", "a.example", true},
           {"example", "example", true},
           {"example", "anexample", false},
           {".example", "a.example", true},
           {".example", "example", true},
           {"*.example", "a.b.example", true},
           {"*.example", "example", false},
           {"*.example", "anexample", false},
           {"A.Example.", "a.exAmple", true},
           {"b.example, a.example", "a.example", true},
           {"b.example a.example", "a.example", true},
           {"", "a.example", false},
           {",,", "a.example", false},
           {"a.example:5000", "a.example", true},
           {"*.example:5000", "a.example", true},
           {"a.example:5001", "a.example", false},
           {"a.example:", "a.example", false},
           {"10.1.2.3", "10.1.2.3", true},
           {"10.1.2.3:5000", "10.1.2.3", true},
           {"10.1.2.3:80", "10.1.2.3", false},
           {"2.3", "10.1.2.3", false},
           {"10.0.0.0/8", "10.1.2.3", true},
           {"10.0.0.0/15", "10.1.2.3", true},
           {"10.0.0.0/16", "10.1.2.3", false},
           {"10.0.0.0/33", "10.0.0.0", false},
           {"10.0.0.0/8", "10.example", false},
           {"10.0.0.0/8:5000", "10.1.2.3", true},
           {"fd00::1", "[fd00::1]", true},
           {"[fd00::1]", "[fd00::1]", true},
           {"[fd00::1]:5000", "[fd00::1]", true},
           {"[fd00::1]:80", "[fd00::1]", false},
           {"fd00::/8", "[fd12::1]", true},
           {"fd00::/8", "[fe12::1]", false},
       }) {
    EXPECT_EQ(is_named_by_no_proxy(each.list, each.host, "5000"), each.named)
        << each.list << ' ' << each.host;
  }
}

}  // namespace
}  // namespace obd::registry::test
