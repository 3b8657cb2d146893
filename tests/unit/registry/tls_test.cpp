#include "registry/tls.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <httplib.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <thread>

#include "registry/client.h"
#include "tests/support/certificates.h"
#include "tests/support/scripted_server.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

namespace fs = std::filesystem;
using obd::test::CertificateAuthority;
using obd::test::FakeRegistry;
using obd::test::IssuedCertificate;
using testing::AllOf;
using testing::HasSubstr;

/// A server that says over TLS which client it sees.
class TlsServer {
 public:
  /// Wants clients to have a certificate of the authority in `client_ca`, unless that is empty.
  TlsServer(const fs::path& certificate, const fs::path& key, const fs::path& client_ca,
            const std::string& authority = "")
      : server_(certificate.c_str(), key.c_str(), client_ca.empty() ? nullptr : client_ca.c_str()) {
    if (!client_ca.empty()) {  // it names whom it trusts, as most servers do
      SSL_CTX_set_client_CA_list(server_.ssl_context(), SSL_load_client_CA_file(client_ca.c_str()));
    }
    server_.Get(".*", [](const httplib::Request& request, httplib::Response& response) {
      char name[200] = "nobody";
      if (X509* peer = SSL_get_peer_certificate(request.ssl)) {
        X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof name);
        X509_free(peer);
      }
      response.set_content(name, "text/plain");
    });
    if (authority.empty()) {
      port_ = server_.bind_to_any_port("127.0.0.1");
    } else {
      port_ = std::stoi(authority.substr(authority.find(':') + 1));
      server_.bind_to_port("127.0.0.1", port_);
    }
    thread_ = std::jthread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~TlsServer() {
    server_.stop();
    thread_.join();
  }
  Url url() const { return Url::parse(fmt::format("https://127.0.0.1:{}/", port_)); }
  std::string authority() const { return fmt::format("127.0.0.1:{}", port_); }

 private:
  httplib::SSLServer server_;
  int port_ = 0;
  std::jthread thread_;
};

class Tls : public testing::Test {
 protected:
  Tls() {
    ours_ = write("ours.crt", authority_.certificate());
    const IssuedCertificate server = authority_.issue("server", "IP:127.0.0.1,DNS:localhost");
    server_certificate_ = write("server.pem", server.certificate);
    server_key_ = write("server-key.pem", server.key);
  }
  fs::path write(const std::string& name, const std::string& text) const {
    const fs::path path = directory_.path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  std::unique_ptr<TlsServer> serve(const fs::path& client_ca = {}) const {
    return std::make_unique<TlsServer>(server_certificate_, server_key_, client_ca);
  }
  static std::string get(const TlsServer& server, const TlsOptions& options) {
    Transport transport({.tls = TlsContext::load(options)});
    return transport.exchange({.method = "GET", .url = server.url()}, {}).body;
  }
  static TransportError::Kind failure_of(const TlsServer& server, const TlsOptions& options) {
    try {
      ADD_FAILURE() << get(server, options);
    } catch (const TransportError& error) {
      EXPECT_FALSE(error.retryable()) << error.what();
      return error.kind();
    }
    return TransportError::Kind::kOther;
  }
  TlsOptions::ClientCertificate pair(const CertificateAuthority& authority, const std::string& name) const {
    const IssuedCertificate issued = authority.issue(name);
    return {write(name + ".pem", issued.certificate), write(name + "-key.pem", issued.key)};
  }

  TemporaryDirectory directory_;
  CertificateAuthority authority_{"our authority"};
  CertificateAuthority stranger_{"another authority"};
  fs::path ours_;
  fs::path server_certificate_;
  fs::path server_key_;
};

TEST_F(Tls, OptionsThatAskForNothingChangeNothing) {
  EXPECT_EQ(TlsContext::load({}), nullptr);
  EXPECT_EQ(failure_of(*serve(), {}), TransportError::Kind::kCertificate);
}

TEST_F(Tls, RootCasAreTrusted) {
  const auto server = serve();
  EXPECT_EQ(get(*server, {.root_cas = {ours_}}), "nobody");
  const fs::path other = write("other.crt", stranger_.certificate());
  EXPECT_EQ(failure_of(*server, {.root_cas = {other}}), TransportError::Kind::kCertificate);
  EXPECT_EQ(get(*server, {.root_cas = {other, ours_}}), "nobody") << "several files";
  const fs::path bundle =
      write("bundle.crt", "text\n" + stranger_.certificate() + "\n# more\n" + authority_.certificate());
  EXPECT_EQ(get(*server, {.root_cas = {bundle}}), "nobody") << "several in one file";
}

TEST_F(Tls, TrustAloneShowsNoCertificate) {
  const auto server = serve(ours_);
  const TlsOptions options{.root_cas = {ours_}, .client_certificates = {pair(authority_, "mine")}};
  EXPECT_NE(get(*server, options), "nobody");
  Transport anonymous({.tls = TlsContext::load_trust(options)});
  EXPECT_THROW(anonymous.exchange({.method = "GET", .url = server->url()}, {}), TransportError);
  Transport to_anybody({.tls = TlsContext::load_trust(options)});
  EXPECT_EQ(to_anybody.exchange({.method = "GET", .url = serve()->url()}, {}).body, "nobody");
}

TEST_F(Tls, RootCasAddToWhatTheSystemTrusts) {
  const fs::path other = write("other.crt", stranger_.certificate());
  ::setenv("SSL_CERT_FILE", ours_.c_str(), 1);
  const auto server = serve();
  EXPECT_EQ(get(*server, {}), "nobody");
  EXPECT_EQ(get(*server, {.root_cas = {other}}), "nobody");
  ::unsetenv("SSL_CERT_FILE");
  EXPECT_EQ(failure_of(*server, {.root_cas = {other}}), TransportError::Kind::kCertificate);
}

TEST_F(Tls, DirectoriesAreLaidOutAsDockerDoes) {
  write("certs.d/ca.crt", authority_.certificate());
  write("certs.d/other.crt", stranger_.certificate());
  const IssuedCertificate client = authority_.issue("me");
  write("certs.d/client.cert", client.certificate);
  write("certs.d/client.key", client.key);
  write("certs.d/README", "no certificate");
  EXPECT_EQ(get(*serve(ours_), {.cert_dirs = {directory_.path() / "certs.d"}}), "me");
}

TEST_F(Tls, ServerThatWantsACertificateGetsOneOfItsAuthority) {
  const auto server = serve(ours_);
  const auto mine = pair(authority_, "mine");
  const auto foreign = pair(stranger_, "foreign");
  TlsOptions options{.root_cas = {ours_}, .client_certificates = {foreign, mine}};
  EXPECT_EQ(get(*server, options), "mine");
  options.client_certificates = {mine, foreign};
  EXPECT_EQ(get(*server, options), "mine");
  // This server may close the connection before what it says of the certificate has been read.
  options.client_certificates = {foreign};
  EXPECT_THROW(get(*server, options), TransportError);
  options.client_certificates = {};
  EXPECT_THROW(get(*server, options), TransportError);
}

TEST_F(Tls, InsecureTrustsAnyCertificateAndTriesPlainHttp) {
  const auto server = serve();
  EXPECT_EQ(get(*server, {.insecure = true}), "nobody");
  ClientOptions options;
  options.transport.tls = TlsContext::load({.insecure = true});
  RegistryClient encrypted(parse_repository_name(server->authority() + "/a"), options);
  EXPECT_TRUE(encrypted.url("x", {}).is_https());
  FakeRegistry plain;
  RegistryClient open(parse_repository_name(plain.authority() + "/a"), options);
  EXPECT_FALSE(open.url("x", {}).is_https());
}

TEST_F(Tls, LoopbackRegistryThatWantsACertificateIsNotAskedOverHttp) {
  const auto server = serve(ours_);
  ClientOptions options;
  options.transport.tls = TlsContext::load({.root_cas = {ours_}});
  RegistryClient client(parse_repository_name(server->authority() + "/a"), options);
  EXPECT_TRUE(client.url("x", {}).is_https());
}

/// Whether a registry on this machine with this first conversation, and `then` for all others, is spoken to
/// by https.
bool becomes_https(const std::function<void(obd::test::Conversation&)>& first,
                   const std::function<void(obd::test::Conversation&)>& then) {
  std::atomic<int> count = 0;
  obd::test::ScriptedServer server(
      [&](obd::test::Conversation& client) { count++ == 0 ? first(client) : then(client); });
  RegistryClient client(parse_repository_name(server.authority() + "/a"), {.retry = quick_retries()});
  return client.url("x", {}).is_https();
}

TEST_F(Tls, OnlyAnAnswerDecidesHowToSpeakToALoopbackRegistry) {
  const auto hang_up = [](obd::test::Conversation& client) { client.skip(1); };
  const auto refuse = [](obd::test::Conversation& client) {
    client.skip(1);
    client.write("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
  };
  const auto welcome = [](obd::test::Conversation& client) {
    if (client.read_head().starts_with("GET /v2/")) client.write("HTTP/1.0 200 OK\r\n\r\n");
  };
  EXPECT_THROW(becomes_https(hang_up, hang_up), TransportError);
  EXPECT_FALSE(becomes_https(refuse, refuse)) << "it speaks, but not TLS";
  EXPECT_FALSE(becomes_https(hang_up, welcome));
  EXPECT_FALSE(becomes_https(hang_up, refuse)) << "asked by TLS again";
}

TEST_F(Tls, LoopbackRegistryThatComesUpLateIsAskedByTls) {
  std::unique_ptr<TlsServer> server = serve();
  const std::string authority = server->authority();
  server.reset();
  ClientOptions options;
  options.transport.tls = TlsContext::load({.root_cas = {ours_}});
  options.retry = quick_retries();
  RegistryClient client(parse_repository_name(authority + "/a"), options);
  EXPECT_THROW(client.url("x", {}), TransportError);
  server = std::make_unique<TlsServer>(server_certificate_, server_key_, "", authority);
  EXPECT_TRUE(client.url("x", {}).is_https());
}

TEST_F(Tls, FilesThatCannotBeUsedAreNamed) {
  const auto refuse = [](const TlsOptions& options, const fs::path& file) {
    EXPECT_THAT(message_of<UsageError>([&] { TlsContext::load(options); }), HasSubstr(file.string()));
  };
  const fs::path missing = directory_.path() / "missing";
  const fs::path junk = write("junk.pem", "no certificate");
  const fs::path torn = write("torn.pem", authority_.certificate().substr(0, 200));
  const fs::path second =
      write("second.pem", authority_.certificate() + torn.string() +
                              "\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  const auto mine = pair(authority_, "mine");
  const auto other = pair(authority_, "other");
  for (const fs::path& file : {missing, junk, torn, second}) {
    refuse({.root_cas = {file}}, file);
    refuse({.client_certificates = {{file, mine.key}}}, file);
    if (file != second) refuse({.client_certificates = {{mine.certificate, file}}}, file);
  }
  refuse({.cert_dirs = {missing}}, missing);
  refuse({.client_certificates = {{mine.certificate, other.key}}}, other.key);
  const fs::path lonely = write("lonely/a.cert", authority_.certificate());
  refuse({.cert_dirs = {lonely.parent_path()}}, lonely);
  const fs::path key = write("keyless/a.key", "x");
  refuse({.cert_dirs = {key.parent_path()}}, key);
  const fs::path bad = write("bad/a.crt", "x");
  refuse({.cert_dirs = {bad.parent_path()}}, bad);
}

}  // namespace
}  // namespace obd::registry::test
