#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "registry/registry.h"
#include "registry/retry.h"
#include "registry/scope.h"
#include "registry/secrets.h"
#include "registry/transport.h"

namespace obd::registry {

using SteadyClock = std::function<std::chrono::steady_clock::time_point()>;

struct Token {
  std::string text = {};
  /// Somewhat before its end.
  std::chrono::steady_clock::time_point refresh_at = {};
  /// When it ends by what its issuer said of it.
  std::chrono::steady_clock::time_point ends_at = {};
};

/// Who issues tokens, as a registry's challenge names it.
struct TokenRealm {
  Url url;
  std::string service = {};
};

/// Gets tokens from the services that a registry names.
///
/// An identity token is sent by OAuth2's POST; a user and password by GET, and by POST to a service that
/// answers GET with 404 or 405; whoever has neither asks by GET. A refresh token that a service returns takes
/// the place of what it was given, for as long as it is accepted.
///
/// Threads: any number at once.
/// Errors:  AuthError where the service refuses or answers no usable token; what the transport throws.
/// Source:  the token authentication specifications of the distribution project (GET, and OAuth2 POST).
class TokenService {
 public:
  struct Options {
    std::string repository;  // for messages
    RetryPolicy retry;
    SteadyClock now;
  };
  /// `transport` and `secrets` must outlive this.
  TokenService(Transport& transport, Secrets& secrets, Options options);

  Token fetch(const TokenRealm& realm, const ScopeSet& scopes, const std::optional<Credential>& credential,
              const std::stop_token& stop);

 private:
  struct Session {
    std::string realm;
    bool post = false;  // the service does not know GET
    std::string refresh_token = {};
  };

  Session session_with(const TokenRealm& realm) const;
  void remember(Session session);
  HttpResponse get(const TokenRealm& realm, const ScopeSet& scopes,
                   const std::optional<Credential>& credential, const std::stop_token& stop);
  HttpResponse post(const TokenRealm& realm, const ScopeSet& scopes, std::string grant,
                    const std::stop_token& stop);
  HttpResponse ask(const TokenRealm& realm, const ScopeSet& scopes,
                   const std::optional<Credential>& credential, Session& session,
                   const std::stop_token& stop);
  Token read(const HttpResponse& response, const std::string& method,
             std::chrono::steady_clock::time_point asked_at, Session& session);
  [[noreturn]] void refuse(const HttpResponse& response, const std::string& method,
                           bool has_credential) const;

  Transport& transport_;
  Secrets& secrets_;
  const Options options_;
  mutable std::mutex mutex_;  // guards session_
  Session session_;
};

}  // namespace obd::registry
