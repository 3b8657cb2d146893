#include "registry/auth.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"

namespace obd::registry {
namespace {

std::string parameter(const Challenge& challenge, const std::string& name) {
  const auto found = challenge.parameters.find(name);
  return found == challenge.parameters.end() ? std::string() : found->second;
}

std::vector<Challenge> challenges_of(const HttpResponse& response) {
  std::vector<Challenge> challenges;
  for (const Header& header : response.headers) {
    if (header.name != "www-authenticate") continue;
    for (Challenge& challenge : parse_challenges(header.value)) challenges.push_back(std::move(challenge));
  }
  return challenges;
}

/// None if there is none of that scheme.
std::optional<Challenge> of_scheme(const std::vector<Challenge>& challenges, std::string_view scheme) {
  const auto found =
      std::find_if(challenges.begin(), challenges.end(), [&](auto& each) { return each.scheme == scheme; });
  return found == challenges.end() ? std::nullopt : std::optional(*found);
}

std::string bearer_header(std::string_view token) {
  return fmt::format("Bearer {}", token);
}

bool can_do_basic(const std::optional<Credential>& credential) {
  return credential && !credential->user.empty() &&
         (credential->identity_token.empty() || !credential->password.empty());
}

}  // namespace

Authenticator::Authenticator(Transport& transport, Options options)
    : options_(std::move(options)),
      service_(transport, secrets_,
               {.repository = options_.repository, .retry = options_.retry, .now = options_.now}) {}

bool Authenticator::has_credential() const {
  const std::lock_guard lock(mutex_);
  return credential_.has_value() || options_.credential.has_value();
}

std::optional<Credential> Authenticator::credential(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, stop, [&] { return search_ != Search::kRunning; });
  if (stop.stop_requested()) throw Cancelled();
  if (search_ == Search::kToDo) {
    search_ = Search::kRunning;
    lock.unlock();
    std::optional<Credential> found;
    std::exception_ptr failure;
    Search next = Search::kDone;
    try {
      found = search(stop);
    } catch (const Cancelled&) {
      next = Search::kToDo;  // nothing is wrong with the credential
      failure = std::current_exception();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    search_ = next;
    credential_ = std::move(found);
    search_failure_ = next == Search::kDone ? failure : nullptr;
    changed_.notify_all();
    if (failure) std::rethrow_exception(failure);
  }
  if (search_failure_) std::rethrow_exception(search_failure_);
  return credential_;
}

std::optional<Credential> Authenticator::search(const std::stop_token& stop) {
  std::optional<Credential> found = options_.credential;
  if (!found && options_.find_credential) found = options_.find_credential(stop);
  if (found) {
    secrets_.add_credential(found->password);
    secrets_.add_credential(found->identity_token);
    secrets_.add_credential(found->registry_token);
    if (!found->password.empty()) {
      secrets_.add_credential(basic_authorization(found->user, found->password).substr(6));
    }
  }
  return found;
}

std::optional<Authorization> Authenticator::authorization(const ScopeSet& scopes,
                                                          const std::stop_token& stop) {
  std::optional<TokenRealm> realm;
  {
    const std::lock_guard lock(mutex_);
    if (!challenge_) return std::nullopt;
    if (challenge_->scheme == "bearer") realm = realm_of(*challenge_);
  }
  if (realm) return bearer(*realm, scopes, stop);
  const std::optional<Credential> login = credential(stop);
  if (!can_do_basic(login)) return std::nullopt;
  return Authorization{basic_authorization(login->user, login->password)};
}

Authorization Authenticator::bearer(const TokenRealm& realm, const ScopeSet& scopes,
                                    const std::stop_token& stop) {
  const std::optional<Credential> login = credential(stop);
  if (login && !login->registry_token.empty())
    return {.header = bearer_header(login->registry_token), .is_final = true};
  std::unique_lock lock(mutex_);
  Slot& slot = slots_[scopes.text()];
  changed_.wait(lock, stop, [&] { return !slot.fetching; });
  if (stop.stop_requested()) throw Cancelled();
  if (!slot.token || options_.now() >= slot.token->refresh_at) {
    slot.fetching = true;
    lock.unlock();
    std::optional<Token> token;
    std::exception_ptr failure;
    try {
      token = service_.fetch(realm, scopes, login, stop);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    slot.fetching = false;
    slot.token = std::move(token);
    changed_.notify_all();
    if (failure) std::rethrow_exception(failure);
  }
  return {bearer_header(slot.token->text), slot.token->ends_at};
}

bool Authenticator::learn(const HttpResponse& response, const std::optional<Authorization>& used,
                          ScopeSet& scopes, const std::stop_token& stop) {
  if (response.status == 400) {  // what one registry says of a token that has ended
    if (!used || !used->ends_at || options_.now() < *used->ends_at) return false;
    forget(used);
    return true;
  }
  if (response.status != 401 && response.status != 403) return false;
  const std::vector<Challenge> challenges = challenges_of(response);
  if (auto bearer = of_scheme(challenges, "bearer")) {
    if (used && used->is_final) return false;
    const bool more_is_needed = parameter(*bearer, "error") == "insufficient_scope";
    const bool widened = more_is_needed && scopes.widen(parameter(*bearer, "scope"));
    if (response.status == 403 && !widened) return false;
    return accept(std::move(*bearer), response, widened ? std::nullopt : used);
  }
  auto basic = of_scheme(challenges, "basic");
  const bool rejected = used && used->header.starts_with("Basic ");
  if (response.status == 403 || !basic || rejected || !can_do_basic(credential(stop))) return false;
  return accept(std::move(*basic), response, used);
}

/// `refused`: what the registry does not take any more.
bool Authenticator::accept(Challenge challenge, const HttpResponse& response,
                           const std::optional<Authorization>& refused) {
  forget(refused);
  const std::lock_guard lock(mutex_);
  challenge_ = std::move(challenge);
  registry_ = response.url;
  return true;
}

/// Unless another thread has replaced it meanwhile.
void Authenticator::forget(const std::optional<Authorization>& refused) {
  if (!refused) return;
  const std::lock_guard lock(mutex_);
  for (auto& [scopes, slot] : slots_) {
    if (slot.token && refused->header == bearer_header(slot.token->text)) slot.token.reset();
  }
}

TokenRealm Authenticator::realm_of(const Challenge& challenge) const {
  const std::string realm = parameter(challenge, "realm");
  const auto refuse = [&](std::string_view why) {
    return AuthError(fmt::format("{}: it sends us to a token service that {}", registry_->origin(), why));
  };
  if (realm.empty()) throw refuse("has no address");
  std::optional<Url> url;
  try {
    url = registry_->resolve(realm);
  } catch (const NetworkError& error) {
    throw refuse(fmt::format("cannot be asked: {}", error.what()));
  }
  if (registry_->is_https() && !url->is_https()) {
    throw refuse(
        fmt::format("is not reached over https ({}), which would give the password away", url->redacted()));
  }
  return {.url = *url, .service = parameter(challenge, "service")};
}

}  // namespace obd::registry
