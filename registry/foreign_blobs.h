#pragma once

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "registry/registry.h"

namespace obd::registry {

class Transport;

/// Reads blobs from the URLs that a manifest names for them, as it may for "foreign" layers (Docker) and
/// "non-distributable" ones (OCI), which a registry need not have. Whoever made the image chose the hosts, so
/// they learn nothing of us: no login, no auth file, no client certificate and no cookie goes to them, nor to
/// where they redirect to, the image's own registry included.
///
/// Threads: any number at once.
/// Source:  OCI image specification 1.0, "Content Descriptors" (`urls`); Docker image manifest V2, schema 2.
class ForeignBlobs {
 public:
  /// Of `options` count: `retry`, whom `tls` trusts, `work_directory` and `spool_memory_bytes`. Throws
  /// UsageError for TLS files that cannot be used.
  explicit ForeignBlobs(const RepositoryOptions& options);
  ~ForeignBlobs();
  ForeignBlobs(const ForeignBlobs&) = delete;
  ForeignBlobs& operator=(const ForeignBlobs&) = delete;

  /// Hands a whole blob, in order, to `consume`. The URLs are tried one after the other until one yields
  /// content of the right size and digest: http and https alone, without a user in them; redirects,
  /// repetitions and resumed transfers are as with a registry. Unlike Repository::pull_blob() this hands out
  /// what is verified already, since a consumer could not start anew with the next URL; so there must be room
  /// for the blob.
  ///
  /// Throws NetworkError with what each URL led to, without queries, if none yields it (DataError if it was
  /// wrong content alone, or if there are no URLs); IoError where there is no room.
  void pull(const BlobId& blob, const std::vector<std::string>& urls, const BlobConsumer& consume,
            std::stop_token stop);

 private:
  std::unique_ptr<Spool> fetch(const BlobId& blob, const std::string& url, const std::stop_token& stop);
  std::unique_ptr<Spool> fetch_any(const BlobId& blob, const std::vector<std::string>& urls,
                                   const std::stop_token& stop);

  const RetryPolicy retry_;
  const std::filesystem::path work_directory_;
  const uint64_t spool_memory_bytes_;
  const std::unique_ptr<Transport> transport_;
};

/// The hosts of such URLs, each once, for messages: "a.example, b.example". What would not be asked has none;
/// empty if that is true of all.
std::string hosts_of(const std::vector<std::string>& urls);

}  // namespace obd::registry
