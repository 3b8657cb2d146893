#pragma once

#include <memory>

#include "registry/registry.h"

namespace obd::registry {

/// The certificates and keys of TlsOptions, read and checked, for any number of connections.
///
/// Threads: any, once made.
class TlsContext {
 public:
  /// None where the options ask for nothing. Throws UsageError that names the file, if one cannot be read,
  /// holds no certificate or key in PEM, or is half of a pair.
  static std::shared_ptr<const TlsContext> load(const TlsOptions& options);
  /// Likewise, but shows no certificate to anybody: for servers that are not to know who we are.
  static std::shared_ptr<const TlsContext> load_trust(const TlsOptions& options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /// `easy`: a curl handle, which this must outlive. What it trusts already stays trusted.
  void configure(void* easy) const;
  bool insecure() const;

 private:
  struct Material;
  explicit TlsContext(std::unique_ptr<Material> material);
  static std::unique_ptr<Material> read(const TlsOptions& options);

  const std::unique_ptr<Material> material_;
};

}  // namespace obd::registry
