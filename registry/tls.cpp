#include "registry/tls.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <vector>

#include "common/c_handle.h"
#include "common/error.h"
#include "common/log.h"

namespace obd::registry {
namespace {

namespace fs = std::filesystem;

using Certificate = CHandle<X509, X509_free>;
using PrivateKey = CHandle<EVP_PKEY, EVP_PKEY_free>;
using Bio = CHandle<BIO, BIO_free_all>;

constexpr size_t kMaxFileBytes = 16 << 20;  // a whole system's authorities are 0.2 MB

std::string read_file(const fs::path& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) {
    throw UsageError(IoError::from_errno(path.string(), errno != 0 ? errno : EIO).what());
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) {
    throw UsageError(fmt::format("{}: too large for certificates", path.string()));
  }
  return text;
}

Bio bio_for(const std::string& text) {
  Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  OBD_CHECK(bio);
  return bio;
}

/// OpenSSL would ask on the terminal.
int no_passphrase(char*, int, int, void*) noexcept {
  return -1;
}

std::vector<Certificate> read_certificates(const fs::path& path) {
  const std::string text = read_file(path);
  const Bio bio = bio_for(text);
  std::vector<Certificate> found;
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)) {
    found.emplace_back(certificate);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) throw UsageError(fmt::format("{}: a certificate in it is malformed", path.string()));
  if (found.empty()) throw UsageError(fmt::format("{}: it holds no certificate in PEM form", path.string()));
  return found;
}

PrivateKey read_key(const fs::path& path) {
  const std::string text = read_file(path);
  PrivateKey key(PEM_read_bio_PrivateKey(bio_for(text).get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (!key) {
    throw UsageError(fmt::format(
        "{}: it holds no private key in PEM form that can be read without a passphrase", path.string()));
  }
  return key;
}

struct ClientPair {
  std::vector<Certificate> chain;  // ours first
  PrivateKey key;

  bool issued_by(const X509_NAME* authority) const {
    return std::any_of(chain.begin(), chain.end(), [&](const Certificate& certificate) {
      return X509_NAME_cmp(X509_get_issuer_name(certificate.get()), authority) == 0;
    });
  }
};

ClientPair read_pair(const fs::path& certificate, const fs::path& key) {
  ClientPair pair{read_certificates(certificate), read_key(key)};
  const bool fits = X509_check_private_key(pair.chain.front().get(), pair.key.get()) == 1;
  ERR_clear_error();
  if (!fits) {
    throw UsageError(
        fmt::format("{}: the key in {} does not belong to it", certificate.string(), key.string()));
  }
  return pair;
}

/// In an order that does not depend on the filesystem.
std::set<fs::path> files_of(const fs::path& directory) {
  std::error_code error;
  std::set<fs::path> files;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) files.insert(entry->path());
  if (error) throw UsageError(fmt::format("{}: {}", directory.string(), error.message()));
  return files;
}

}  // namespace

struct TlsContext::Material {
  std::vector<Certificate> authorities;
  std::vector<ClientPair> pairs;
  bool insecure = false;

  void add_directory(const fs::path& directory);
  void add_authorities(const fs::path& file);
  const ClientPair& choose(SSL* connection) const;

  static CURLcode on_context(CURL*, void* context, void* self) noexcept;
  static int on_certificate(SSL* connection, void* self) noexcept;
};

void TlsContext::Material::add_authorities(const fs::path& file) {
  for (Certificate& certificate : read_certificates(file)) authorities.push_back(std::move(certificate));
}

void TlsContext::Material::add_directory(const fs::path& directory) {
  const auto files = files_of(directory);
  bool is_used = false;
  for (const fs::path& file : files) {
    is_used |= file.extension() == ".crt" || file.extension() == ".cert";
    const auto with = [&](const char* extension) { return fs::path(file).replace_extension(extension); };
    if (file.extension() == ".crt") {
      add_authorities(file);
    } else if (file.extension() == ".cert") {
      if (!files.contains(with(".key"))) {
        throw UsageError(
            fmt::format("{}: its key {} is missing", file.string(), with(".key").filename().string()));
      }
      pairs.push_back(read_pair(file, with(".key")));
    } else if (file.extension() == ".key" && !files.contains(with(".cert"))) {
      throw UsageError(fmt::format("{}: its certificate {} is missing (a root CA is named *.crt)",
                                   file.string(), with(".cert").filename().string()));
    }
  }
  if (!is_used) {
    log::warn("{}: nothing in it is used: authorities are named *.crt, certificates *.cert and *.key",
              directory.string());
  }
}

/// The first that an authority which the server names has issued; the server may judge where none fits.
const ClientPair& TlsContext::Material::choose(SSL* connection) const {
  const STACK_OF(X509_NAME)* names = SSL_get0_peer_CA_list(connection);
  for (const ClientPair& pair : pairs) {
    for (int i = 0; i < sk_X509_NAME_num(names); ++i) {
      if (pair.issued_by(sk_X509_NAME_value(names, i))) return pair;
    }
  }
  return pairs.front();
}

/// Called when a server has asked for a certificate.
int TlsContext::Material::on_certificate(SSL* connection, void* self) noexcept {
  const ClientPair& pair = static_cast<const Material*>(self)->choose(connection);
  if (SSL_use_certificate(connection, pair.chain.front().get()) != 1) return 0;
  if (SSL_use_PrivateKey(connection, pair.key.get()) != 1) return 0;
  if (SSL_clear_chain_certs(connection) != 1) return 0;
  for (size_t i = 1; i < pair.chain.size(); ++i) {
    if (SSL_add1_chain_cert(connection, pair.chain[i].get()) != 1) return 0;
  }
  return 1;
}

/// curl has loaded what it trusts by then: this adds to it.
CURLcode TlsContext::Material::on_context(CURL*, void* context, void* self) noexcept {
  auto* const ssl = static_cast<SSL_CTX*>(context);
  auto& material = *static_cast<Material*>(self);
  X509_STORE* const store = SSL_CTX_get_cert_store(ssl);
  for (const Certificate& authority : material.authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) return CURLE_SSL_CACERT_BADFILE;
  }
  if (!material.pairs.empty()) SSL_CTX_set_cert_cb(ssl, on_certificate, &material);
  return CURLE_OK;
}

TlsContext::TlsContext(std::unique_ptr<Material> material) : material_(std::move(material)) {}
TlsContext::~TlsContext() = default;

std::unique_ptr<TlsContext::Material> TlsContext::read(const TlsOptions& options) {
  auto material = std::make_unique<Material>();
  material->insecure = options.insecure;
  for (const auto& pair : options.client_certificates) {
    material->pairs.push_back(read_pair(pair.certificate, pair.key));
  }
  for (const fs::path& file : options.root_cas) material->add_authorities(file);
  for (const fs::path& directory : options.cert_dirs) material->add_directory(directory);
  return material;
}

std::shared_ptr<const TlsContext> TlsContext::load(const TlsOptions& options) {
  if (options == TlsOptions{}) return nullptr;
  return std::shared_ptr<const TlsContext>(new TlsContext(read(options)));
}

std::shared_ptr<const TlsContext> TlsContext::load_trust(const TlsOptions& options) {
  if (options == TlsOptions{}) return nullptr;
  auto material = read(options);
  material->pairs.clear();
  return std::shared_ptr<const TlsContext>(new TlsContext(std::move(material)));
}

bool TlsContext::insecure() const {
  return material_->insecure;
}

void TlsContext::configure(void* opaque) const {
  CURL* const easy = opaque;
  const auto set = [easy](CURLoption option, auto value) {
    OBD_CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
  };
  if (material_->insecure) {
    set(CURLOPT_SSL_VERIFYPEER, 0L);
    set(CURLOPT_SSL_VERIFYHOST, 0L);
  }
  set(CURLOPT_SSL_CTX_FUNCTION, &Material::on_context);
  set(CURLOPT_SSL_CTX_DATA, material_.get());
}

}  // namespace obd::registry
