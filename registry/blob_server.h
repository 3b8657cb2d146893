#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "registry/registry.h"
#include "registry/retry.h"
#include "registry/transport.h"

namespace obd::registry {

/// Who has a blob: a repository of a registry, or a server that a manifest names.
///
/// Threads: any number at once.
class BlobServer {
 public:
  virtual ~BlobServer() = default;

  /// For messages. Holds no secret.
  virtual std::string display_name() const = 0;

  /// One GET for `blob`, redirects followed, not tried again. Throws NetworkError unless the answer is a 2xx,
  /// whose body goes to `sink`.
  virtual HttpResponse get_blob(const BlobId& blob, std::vector<Header> headers, ResponseSink sink,
                                const std::stop_token& stop) = 0;

  virtual const RetryPolicy& retry_policy() const = 0;
};

}  // namespace obd::registry
