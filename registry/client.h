#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "registry/auth.h"
#include "registry/blob_server.h"
#include "registry/reference.h"
#include "registry/retry.h"
#include "registry/transport.h"

namespace obd::registry {

/// When and how a large blob is read over several connections; docs/performance.md has the measurements.
struct ParallelOptions {
  /// What must be left of the blob, and how much is read before it is decided.
  uint64_t min_bytes = 32 << 20;
  uint64_t sample_bytes = 8 << 20;
  /// Slower than this is slow; a Gigabit link alone is not.
  double slow_bytes_per_second = 80e6;
  uint64_t piece_bytes = 8 << 20;
  size_t streams = 4;
  /// Of all blobs of this process together; blobs that are read over one connection count but never wait.
  size_t transfers_per_host = 6;
};

/// What tests and later options turn; users see RepositoryOptions.
struct ClientOptions {
  std::optional<Credential> credential = {};
  CredentialFinder find_credential = {};  // asked where there is no `credential`
  bool plain_http = false;
  RetryPolicy retry = {};
  TransportOptions transport = {};
  ParallelOptions parallel = {};
  SteadyClock now = [] { return std::chrono::steady_clock::now(); };
};

/// A request to the registry itself, or to where it sent us.
struct Call {
  HttpRequest request;
  Access access = Access::kPull;
  /// Statuses beside 2xx that are answers, not failures; 401 only to who has logged in.
  std::vector<int> answers = {};
  /// The path of another repository of the same registry that must be readable too.
  std::string mount_from = {};
};

/// Requests to one repository, logged in, redirected and retried as the protocol wants it.
///
/// The credential is bound to the registry's origin: a request to any other place goes without.
///
/// Threads: any number at once.
/// Errors:  AuthError for 401 and 403; StatusError for other statuses that are no answers; TransportError.
class RegistryClient final : public BlobServer {
 public:
  RegistryClient(RepositoryName name, ClientOptions options);

  /// The URL of a resource of the repository: "blobs/…", "manifests/…". Finds out, once, which scheme the
  /// registry speaks.
  Url url(const std::string& resource, const std::stop_token& stop);

  HttpResponse send(const Call& call, const std::stop_token& stop);
  /// send() without retries, for callers that go on from where they were.
  HttpResponse send_once(const Call& call, const std::stop_token& stop);

  std::string display_name() const override { return name_.display; }
  HttpResponse get_blob(const BlobId& blob, std::vector<Header> headers, ResponseSink sink,
                        const std::stop_token& stop) override;
  const RetryPolicy& retry_policy() const override { return options_.retry; }

  const RepositoryName& name() const { return name_; }
  const TransportOptions& transport_options() const { return options_.transport; }
  const ParallelOptions& parallel_options() const { return options_.parallel; }

 private:
  Url base(const std::stop_token& stop);
  Url probe(const std::stop_token& stop);
  /// With what such calls have turned out to need.
  ScopeSet scopes_of(const Call& call);
  void remember(Access access, const ScopeSet& scopes);
  [[noreturn]] void fail(const Call& call, const HttpResponse& response, const std::string& origin) const;

  const RepositoryName name_;
  const ClientOptions options_;
  Transport transport_;
  Authenticator authenticator_;
  std::mutex mutex_;  // guards all below
  std::optional<Url> base_;
  std::map<Access, std::string> widened_;  // scopes
};

}  // namespace obd::registry
