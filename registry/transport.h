#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "registry/url.h"

namespace obd::registry {

class TlsContext;

struct Header {
  std::string name;
  std::string value;
};

struct HttpResponse {
  int status = 0;
  std::vector<Header> headers = {};  // names in lower case
  std::string body = {};             // empty if a sink took it
  std::optional<Url> url = {};       // who answered, which is somebody else after a redirect

  /// `name` in lower case; the first value if there are several.
  std::optional<std::string> header(std::string_view name) const;
  /// Where the answer points, made absolute; none if it points nowhere. Throws NetworkError for what must not
  /// be followed: what is no http or https URL, holds credentials, or leads from https to http.
  std::optional<Url> location() const;
  /// The `next` of its Link headers (RFC 8288), made absolute. Throws NetworkError as location(), and for
  /// another origin: a list goes on where it began.
  std::optional<Url> next_page() const;
  bool ok() const { return status >= 200 && status < 300; }
};

/// A body that can be sent again from any offset: a connection that was kept too long is found broken only
/// when it is used.
struct RequestBody {
  uint64_t size = 0;  // bytes
  std::function<void(uint64_t offset, std::span<std::byte> out)> read_at;
};

/// `bytes` must outlive the request.
RequestBody body_of(std::string_view bytes);

/// Takes the body of a 2xx answer as it arrives; `head` has status and headers. Returns false when it has
/// enough: the rest is not read. What it throws ends the transfer and reaches the caller.
using ResponseSink = std::function<bool(const HttpResponse& head, std::span<const std::byte> data)>;

struct HttpRequest {
  std::string method;
  Url url;
  std::vector<Header> headers = {};
  std::optional<RequestBody> body = {};
  ResponseSink sink = {};
  /// How much of a 2xx answer is kept where there is no sink; more is refused with DataError.
  uint64_t max_body_bytes = 64 << 10;
  /// Longer than usual where a registry may have to think before it answers.
  std::optional<std::chrono::milliseconds> stall_timeout = {};
  /// For requests that clean up only: what a sink takes has no time limit as long as bytes move.
  std::optional<std::chrono::milliseconds> deadline = {};
};

/// No answer came, or not all of one.
class TransportError : public NetworkError {
 public:
  enum class Kind { kConnect, kTls, kCertificate, kBroken, kStalled, kOther };
  TransportError(std::string message, Kind kind, bool retryable)
      : NetworkError(std::move(message), 0, retryable), kind_(kind) {}
  Kind kind() const noexcept { return kind_; }

 private:
  Kind kind_;
};

struct TransportOptions {
  std::chrono::milliseconds connect_timeout{30'000};
  /// A transfer ends if not one byte moves for so long.
  std::chrono::milliseconds stall_timeout{60'000};
  /// Likewise between the last byte of a request's body and the answer: storage services copy the blob first,
  /// and proxies send on what they have kept.
  std::chrono::milliseconds commit_timeout{600'000};
  /// For the head of an answer, and the body that no sink takes, to arrive in full.
  std::chrono::milliseconds answer_timeout{300'000};
  /// None: trust as the system does, and show no certificate.
  std::shared_ptr<const TlsContext> tls = {};
};

/// Single HTTP exchanges over connections that are kept and used again. Knows nothing of redirects,
/// credentials, retries or registries.
///
/// Trusts the system's certificate authorities, which SSL_CERT_FILE and SSL_CERT_DIR can name, and those of
/// its options beside them. Uses the proxies that HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name (also in lower
/// case), but not for what NO_PROXY names, and never to reach this machine (proxy.h).
///
/// Threads: any number at once.
/// Errors:  TransportError; DataError for an answer beyond its cap; Cancelled at once when `stop` fires.
class Transport {
 public:
  explicit Transport(TransportOptions options);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  HttpResponse exchange(const HttpRequest& request, const std::stop_token& stop);

 private:
  class Pool;
  const TransportOptions options_;
  std::unique_ptr<Pool> pool_;
};

/// exchange(), following redirects by the rules of RFC 9110 §15.4, at most 10 of them. Authorization is not
/// sent on once the origin has changed.
HttpResponse exchange_following(Transport& transport, HttpRequest request, const std::stop_token& stop);

}  // namespace obd::registry
