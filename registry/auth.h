#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "registry/challenge.h"
#include "registry/registry.h"
#include "registry/retry.h"
#include "registry/scope.h"
#include "registry/secrets.h"
#include "registry/token_service.h"
#include "registry/transport.h"

namespace obd::registry {

/// Looks for a credential; may ask programs, and through them the user.
using CredentialFinder = std::function<std::optional<Credential>(const std::stop_token& stop)>;

/// The Authorization header of a request, and until when it is good: for ever, unless it is a token.
struct Authorization {
  std::string header;
  std::optional<std::chrono::steady_clock::time_point> ends_at = {};
  /// A token that was given to us: there is no other to be had in its place.
  bool is_final = false;
};

/// Logs in to one repository, in the way that the registry asks for: not at all, with the password (Basic),
/// or with tokens (Bearer) that a third party issues or that are part of the credential. Nothing is sent, or
/// looked for, before the registry has asked.
///
/// Threads: any number at once; a credential is looked for once and a token is fetched once, while the others
///          wait for it.
/// Errors:  AuthError if there is no way to log in; what the credential finder throws, each time once it has
///          thrown it; what the transport throws while a token is fetched.
class Authenticator {
 public:
  struct Options {
    std::string repository;  // the path: "library/ubuntu"
    std::optional<Credential> credential = {};
    CredentialFinder find_credential = {};  // asked where there is no `credential`
    RetryPolicy retry;
    SteadyClock now;
  };
  /// `transport` must outlive this.
  Authenticator(Transport& transport, Options options);

  /// For a request that needs `scopes`; none while the registry has not asked for a login.
  std::optional<Authorization> authorization(const ScopeSet& scopes, const std::stop_token& stop);

  /// Learns from an answer 400, 401 or 403 to a request that carried `used`. Returns whether it is worth
  /// asking again; `scopes` has then grown by what the registry found missing.
  bool learn(const HttpResponse& response, const std::optional<Authorization>& used, ScopeSet& scopes,
             const std::stop_token& stop);

  /// Whether one is known by now.
  bool has_credential() const;
  /// Replaces what is secret in a text that a server may have made of what we sent.
  std::string scrub(std::string text) const { return secrets_.scrub(std::move(text)); }

 private:
  struct Slot {
    std::optional<Token> token;
    bool fetching = false;
  };
  enum class Search { kToDo, kRunning, kDone };

  /// Looks for it the first time; others wait meanwhile. Not to be called with the mutex held.
  std::optional<Credential> credential(const std::stop_token& stop);
  std::optional<Credential> search(const std::stop_token& stop);
  Authorization bearer(const TokenRealm& realm, const ScopeSet& scopes, const std::stop_token& stop);
  bool accept(Challenge challenge, const HttpResponse& response, const std::optional<Authorization>& refused);
  void forget(const std::optional<Authorization>& refused);
  TokenRealm realm_of(const Challenge& challenge) const;

  const Options options_;
  Secrets secrets_;
  TokenService service_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable_any changed_;
  Search search_ = Search::kToDo;
  std::optional<Credential> credential_;
  std::exception_ptr search_failure_;
  std::optional<Challenge> challenge_;
  std::optional<Url> registry_;        // who asked
  std::map<std::string, Slot> slots_;  // by the text of the scopes
};

}  // namespace obd::registry
