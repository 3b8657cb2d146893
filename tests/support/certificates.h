#pragma once

#include <memory>
#include <string>

namespace obd::test {

/// A certificate with its key, in PEM.
struct IssuedCertificate {
  std::string certificate;
  std::string key;
};

/// An authority that lives as long as a test.
class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name);
  ~CertificateAuthority();
  CertificateAuthority(const CertificateAuthority&) = delete;
  CertificateAuthority& operator=(const CertificateAuthority&) = delete;

  /// The authority's own certificate, in PEM.
  const std::string& certificate() const;
  /// For a server of that DNS name or address ("DNS:localhost,IP:127.0.0.1"), or a client if `alternatives`
  /// is empty.
  IssuedCertificate issue(const std::string& name, const std::string& alternatives = {}) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace obd::test
