#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "registry/challenge.h"
#include "registry/registry.h"
#include "registry/retry.h"
#include "registry/transport.h"

namespace obd::registry {

enum class Access { kPull, kPush };

using SteadyClock = std::function<std::chrono::steady_clock::time_point()>;

/// Logs in to one repository, in the way that the registry asks for: not at all, with the password (Basic),
/// or with tokens that a third party issues (Bearer). Nothing is sent before the registry has asked.
///
/// Threads: any number at once; a token is fetched once, while the others wait for it.
/// Errors:  AuthError if there is no way to log in; what the transport throws while a token is fetched.
class Authenticator {
 public:
  struct Options {
    std::string repository;  // the path: "library/ubuntu"
    std::optional<Credential> credential = {};
    RetryPolicy retry;
    SteadyClock now;
  };
  /// `transport` must outlive this.
  Authenticator(Transport& transport, Options options);

  /// The Authorization header for a request; none while the registry has not asked for one.
  std::optional<std::string> authorization(Access access, const std::stop_token& stop);

  /// Learns from an answer 401 to a request that carried `used`. Returns whether it is worth asking again.
  bool learn(const HttpResponse& response, const std::optional<std::string>& used);

  bool has_credential() const { return options_.credential.has_value(); }
  /// Replaces what is secret in a text that a server may have made of what we sent.
  std::string scrub(std::string text) const;

 private:
  struct Token {
    std::string text;
    std::chrono::steady_clock::time_point refresh_at;
  };
  struct Slot {
    std::optional<Token> token;
    bool fetching = false;
  };

  Token fetch(const Challenge& challenge, Access access, const std::stop_token& stop);
  Url token_url(const Challenge& challenge, Access access) const;
  std::optional<std::string> basic() const;

  Transport& transport_;
  const Options options_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable_any fetched_;
  std::optional<Challenge> challenge_;
  std::optional<Url> registry_;  // who asked
  std::map<Access, Slot> slots_;
};

}  // namespace obd::registry
