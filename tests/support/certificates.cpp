#include "tests/support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <stdexcept>

#include "common/c_handle.h"

namespace obd::test {
namespace {

using Certificate = CHandle<X509, X509_free>;
using PrivateKey = CHandle<EVP_PKEY, EVP_PKEY_free>;
using Bio = CHandle<BIO, BIO_free_all>;

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("test certificate: ") + what);
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

std::string pem_of(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  require(PEM_write_bio_X509(bio.get(), certificate) == 1, "writing it");
  return text_of(bio.get());
}

std::string pem_of(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  require(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "writing its key");
  return text_of(bio.get());
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const CHandle<X509_EXTENSION, X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  require(extension && X509_add_ext(certificate, extension.get(), -1) == 1, "adding an extension");
}

/// Everything but extensions and signature.
Certificate blank(const std::string& name, EVP_PKEY* key, const X509_NAME* issuer) {
  Certificate certificate(X509_new());
  require(certificate != nullptr, "making it");
  X509_set_version(certificate.get(), X509_VERSION_3);
  uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 24 * 3600);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), issuer == nullptr ? subject : issuer);
  return certificate;
}

PrivateKey new_key() {
  PrivateKey key(EVP_EC_gen("P-256"));
  require(key != nullptr, "making a key");
  return key;
}

}  // namespace

struct CertificateAuthority::Parts {
  PrivateKey key;
  Certificate certificate;
  std::string pem;
};

CertificateAuthority::CertificateAuthority(const std::string& name) : parts_(std::make_unique<Parts>()) {
  parts_->key = new_key();
  parts_->certificate = blank(name, parts_->key.get(), nullptr);
  X509* const certificate = parts_->certificate.get();
  add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
  require(X509_sign(certificate, parts_->key.get(), EVP_sha256()) > 0, "signing it");
  parts_->pem = pem_of(certificate);
}

CertificateAuthority::~CertificateAuthority() = default;

const std::string& CertificateAuthority::certificate() const {
  return parts_->pem;
}

IssuedCertificate CertificateAuthority::issue(const std::string& name,
                                              const std::string& alternatives) const {
  const PrivateKey key = new_key();
  X509* const issuer = parts_->certificate.get();
  const Certificate certificate = blank(name, key.get(), X509_get_subject_name(issuer));
  add_extension(certificate.get(), issuer, NID_ext_key_usage,
                alternatives.empty() ? "clientAuth" : "serverAuth");
  if (!alternatives.empty()) add_extension(certificate.get(), issuer, NID_subject_alt_name, alternatives);
  require(X509_sign(certificate.get(), parts_->key.get(), EVP_sha256()) > 0, "signing it");
  return {pem_of(certificate.get()), pem_of(key.get())};
}

}  // namespace obd::test
