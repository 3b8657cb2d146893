#include "registry/client.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/log.h"
#include "registry/http_error.h"
#include "registry/tls.h"
#include "registry/warnings.h"

namespace obd::registry {
namespace {

/// None, then one that the clock or the registry had ended, then a fresh one.
constexpr int kMaxLogins = 2;
constexpr std::chrono::seconds kProbeTimeout{5};

/// Whether it answers there, as a server of TLS does not.
template <class Ask>
bool is_registry(const Ask& ask, const Url& url) {
  try {
    const HttpResponse response = ask(url);
    return response.ok() || response.status == 401;
  } catch (const TransportError&) {
    return false;
  }
}

}  // namespace

RegistryClient::RegistryClient(RepositoryName name, ClientOptions options)
    : name_(std::move(name)),
      options_(std::move(options)),
      transport_(options_.transport),
      authenticator_(transport_, {.repository = name_.path,
                                  .credential = options_.credential,
                                  .find_credential = options_.find_credential,
                                  .retry = options_.retry,
                                  .now = options_.now}) {}

Url RegistryClient::url(const std::string& resource, const std::stop_token& stop) {
  return base(stop).resolve(fmt::format("/v2/{}/{}", name_.path, resource));
}

Url RegistryClient::base(const std::stop_token& stop) {
  const std::lock_guard lock(mutex_);
  if (!base_) {
    if (options_.plain_http) {
      base_ = Url::parse(fmt::format("http://{}/v2/", name_.authority));
    } else if (name_.loopback || (options_.transport.tls && options_.transport.tls->insecure())) {
      base_ = with_retries(options_.retry, stop, [&] { return probe(stop); });
    } else {
      base_ = Url::parse(fmt::format("https://{}/v2/", name_.authority));
    }
  }
  return *base_;
}

/// A registry on this machine, or one that is not to be checked, may have no certificate. One that has is
/// used over https, trusted or not. Whoever does not answer is neither.
Url RegistryClient::probe(const std::stop_token& stop) {
  using Kind = TransportError::Kind;
  const Url secure = Url::parse(fmt::format("https://{}/v2/", name_.authority));
  const Url plain = Url::parse(fmt::format("http://{}/v2/", name_.authority));
  Transport transport(
      {.connect_timeout = kProbeTimeout, .stall_timeout = kProbeTimeout, .tls = options_.transport.tls});
  const auto ask = [&](const Url& url) {
    return transport.exchange({.method = "GET", .url = url, .sink = [](auto&, auto) { return false; }}, stop);
  };
  try {
    ask(secure);
    return secure;
  } catch (const TransportError& error) {
    // What is wrong with its certificate, or with ours, the first request will say.
    if (error.kind() == Kind::kCertificate || error.kind() == Kind::kBroken) return secure;
    const bool speaks_otherwise = error.kind() == Kind::kTls && !error.retryable();
    const bool says_nothing = error.kind() == Kind::kTls || error.kind() == Kind::kStalled;
    if (!speaks_otherwise && !(says_nothing && is_registry(ask, plain))) throw;
    log::debug("registry={} speaks no https, using http cause=\"{}\"", name_.authority, error.what());
    return plain;
  }
}

HttpResponse RegistryClient::send(const Call& call, const std::stop_token& stop) {
  return with_retries(options_.retry, stop, [&] { return send_once(call, stop); });
}

HttpResponse RegistryClient::send_once(const Call& call, const std::stop_token& stop) {
  const std::string origin = base(stop).origin();
  ScopeSet scopes = scopes_of(call);
  const std::string first_scopes = scopes.text();
  for (int logins = 0;; ++logins) {
    HttpRequest request = call.request;
    std::optional<Authorization> authorization;
    if (request.url.origin() == origin) authorization = authenticator_.authorization(scopes, stop);
    if (authorization) request.headers.push_back({"Authorization", authorization->header});
    HttpResponse response = exchange_following(transport_, std::move(request), stop);
    log::debug("{} {} status={}", call.request.method, response.url->redacted(), response.status);
    if (response.url->origin() == origin) log_warnings(response);
    if (response.ok()) {
      if (scopes.text() != first_scopes) remember(call.access, scopes);
      return response;
    }
    // What a storage service beside the registry asks for is none of our credential's business.
    const bool ours = response.url->origin() == origin;
    if (ours && logins < kMaxLogins && authenticator_.learn(response, authorization, scopes, stop)) continue;
    const bool wants_login = ours && response.status == 401 && !authorization;
    if (!wants_login && std::count(call.answers.begin(), call.answers.end(), response.status) > 0)
      return response;
    fail(call, response, origin);
  }
}

ScopeSet RegistryClient::scopes_of(const Call& call) {
  ScopeSet scopes = ScopeSet::for_access(name_.path, call.access, call.mount_from);
  const std::lock_guard lock(mutex_);
  scopes.widen(widened_[call.access]);
  return scopes;
}

void RegistryClient::remember(Access access, const ScopeSet& scopes) {
  const std::lock_guard lock(mutex_);
  widened_[access] += ' ' + scopes.text();
}

HttpResponse RegistryClient::get_blob(const BlobId& blob, std::vector<Header> headers, ResponseSink sink,
                                      const std::stop_token& stop) {
  Call call{.request = {.method = "GET", .url = url(fmt::format("blobs/{}", blob.digest.text()), stop)}};
  call.request.headers = std::move(headers);
  call.request.sink = std::move(sink);
  return send_once(call, stop);
}

void RegistryClient::fail(const Call& call, const HttpResponse& response, const std::string& origin) const {
  throw_status(response,
               {.method = call.request.method,
                .repository = name_.display,
                .has_credential = authenticator_.has_credential(),
                .pushing = call.access == Access::kPush,
                .foreign = response.url->origin() != origin,
                .scrub = [this](std::string text) { return authenticator_.scrub(std::move(text)); }});
}

}  // namespace obd::registry
