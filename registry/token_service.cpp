#include "registry/token_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "common/error.h"
#include "common/json.h"
#include "common/log.h"
#include "common/percent.h"
#include "registry/challenge.h"
#include "registry/http_error.h"

namespace obd::registry {
namespace {

using std::chrono::seconds;

constexpr uint64_t kMaxTokenAnswerBytes = 1 << 20;
/// What the token specification gives a token that does not say for how long it lives, and the least that any
/// is believed to have: some issuers send 0.
constexpr int64_t kShortestLife = 60;
constexpr int64_t kLongestLife = 86400;
constexpr int kMaxPostRedirects = 3;
constexpr size_t kMaxQuotedBytes = 300;
constexpr std::string_view kClientId = "overlaybd-convertor";

std::string form_field(std::string_view name, std::string_view value) {
  return fmt::format("&{}={}", name, percent_encode(value));
}

std::string refresh_grant(const std::string& token) {
  return "grant_type=refresh_token" + form_field("refresh_token", token);
}

std::string password_grant(const Credential& credential) {
  return "grant_type=password&access_type=offline" + form_field("username", credential.user) +
         form_field("password", credential.password);
}

RequestBody body_of(std::string text) {
  const uint64_t size = text.size();
  return {.size = size, .read_at = [text = std::move(text)](uint64_t offset, std::span<std::byte> out) {
            std::memcpy(out.data(), text.data() + offset, out.size());
          }};
}

/// It goes into a header.
bool is_usable_token(const std::string& token) {
  return !token.empty() && std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 127; });
}

int64_t declared_life(const Json& answer) {
  const auto field = answer.find("expires_in");
  if (field == answer.end() || !field->is_number_integer()) return kShortestLife;
  return std::clamp<int64_t>(field->get<int64_t>(), 0, kLongestLife);
}

bool refuses_method(int status) {
  return status == 404 || status == 405;
}

bool refuses_grant(int status) {
  return status == 400 || status == 401 || status == 403;
}

/// OAuth2's own form of an error (RFC 6749 §5.2).
std::string oauth_error(const HttpResponse& response) {
  try {
    const Json document = parse_json(response.body, "");
    const std::string code = text_field(document, "error");
    if (code.empty()) return {};
    const std::string text = text_field(document, "error_description");
    return text.empty() ? code : fmt::format("{}: {}", code, text);
  } catch (const DataError&) {
    return {};
  }
}

std::string one_line(std::string text) {
  text.resize(std::min(text.size(), kMaxQuotedBytes));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, ' ');
  return text;
}

}  // namespace

TokenService::TokenService(Transport& transport, Secrets& secrets, Options options)
    : transport_(transport), secrets_(secrets), options_(std::move(options)) {}

/// What one service gave is not for another.
TokenService::Session TokenService::session_with(const TokenRealm& realm) const {
  const std::string name = realm.url.text() + ' ' + realm.service;
  const std::lock_guard lock(mutex_);
  return session_.realm == name ? session_ : Session{.realm = name};
}

void TokenService::remember(Session session) {
  const std::lock_guard lock(mutex_);
  session_ = std::move(session);
}

Token TokenService::fetch(const TokenRealm& realm, const ScopeSet& scopes,
                          const std::optional<Credential>& credential, const std::stop_token& stop) {
  Session session = session_with(realm);
  const auto asked_at = options_.now();
  std::string method;
  const HttpResponse response = with_retries(options_.retry, stop, [&] {
    HttpResponse answer = ask(realm, scopes, credential, session, stop);
    method = session.post || !session.refresh_token.empty() ? "POST" : "GET";
    if (!answer.ok()) refuse(answer, method, credential.has_value());
    return answer;
  });
  Token token = read(response, method, asked_at, session);
  remember(std::move(session));
  return token;
}

HttpResponse TokenService::ask(const TokenRealm& realm, const ScopeSet& scopes,
                               const std::optional<Credential>& credential, Session& session,
                               const std::stop_token& stop) {
  if (!session.refresh_token.empty()) {
    HttpResponse response = post(realm, scopes, refresh_grant(session.refresh_token), stop);
    if (!refuses_grant(response.status)) return response;
    session.refresh_token.clear();  // it has ended; the credential has not
  }
  if (!credential) return get(realm, scopes, credential, stop);
  if (!credential->identity_token.empty()) {
    session.post = true;
    HttpResponse response = post(realm, scopes, refresh_grant(credential->identity_token), stop);
    if (refuses_method(response.status)) {
      throw AuthError(
          fmt::format("POST {}: status {}; this service takes no identity token: log in again with a "
                      "user name and a password",
                      realm.url.redacted(), response.status),
          response.status);
    }
    return response;
  }
  if (!session.post) {
    HttpResponse response = get(realm, scopes, credential, stop);
    if (!refuses_method(response.status)) return response;
    session.post = true;
  }
  secrets_.add_credential(percent_encode(credential->password));
  return post(realm, scopes, password_grant(*credential), stop);
}

HttpResponse TokenService::get(const TokenRealm& realm, const ScopeSet& scopes,
                               const std::optional<Credential>& credential, const std::stop_token& stop) {
  Url url = realm.url;
  if (!realm.service.empty()) url = url.with_query("service", realm.service);
  for (const std::string& scope : scopes.texts()) url = url.with_query("scope", scope);
  HttpRequest request{.method = "GET", .url = url, .max_body_bytes = kMaxTokenAnswerBytes};
  request.headers.push_back({"Accept", "application/json"});
  if (credential) {
    request.headers.push_back({"Authorization", basic_authorization(credential->user, credential->password)});
  }
  return exchange_following(transport_, std::move(request), stop);
}

/// The body holds what a redirect to another place must not see.
HttpResponse TokenService::post(const TokenRealm& realm, const ScopeSet& scopes, std::string grant,
                                const std::stop_token& stop) {
  grant += form_field("client_id", kClientId) + form_field("scope", scopes.text());
  if (!realm.service.empty()) grant += form_field("service", realm.service);
  HttpRequest request{.method = "POST", .url = realm.url, .max_body_bytes = kMaxTokenAnswerBytes};
  request.headers = {{"Accept", "application/json"}, {"Content-Type", "application/x-www-form-urlencoded"}};
  request.body = body_of(std::move(grant));
  for (int redirects = 0; redirects <= kMaxPostRedirects; ++redirects) {
    HttpResponse response = transport_.exchange(request, stop);
    if (response.status != 307 && response.status != 308) return response;
    const auto target = response.location();
    if (!target || target->origin() != realm.url.origin()) {
      throw AuthError(fmt::format("POST {}: status {}; the login is not sent on to another place",
                                  request.url.redacted(), response.status),
                      response.status);
    }
    request.url = *target;
  }
  throw AuthError(fmt::format("POST {}: more than {} redirects", request.url.redacted(), kMaxPostRedirects),
                  0);
}

Token TokenService::read(const HttpResponse& response, const std::string& method,
                         std::chrono::steady_clock::time_point asked_at, Session& session) {
  const std::string what = fmt::format("{} {}", method, response.url->redacted());
  const Json answer = parse_json(response.body, what);
  std::string token = text_field(answer, "token");
  if (token.empty()) token = text_field(answer, "access_token");
  if (!is_usable_token(token)) throw AuthError(fmt::format("{}: the answer holds no usable token", what), 0);
  secrets_.add_token(token);
  if (std::string refresh = text_field(answer, "refresh_token"); !refresh.empty()) {
    secrets_.add_token(refresh);
    session.refresh_token = std::move(refresh);
  }
  const int64_t declared = declared_life(answer);
  const int64_t life = std::max(declared, kShortestLife);
  log::debug("token host={} repository={} life_s={}", response.url->host(), options_.repository, declared);
  return {.text = std::move(token),
          .refresh_at = asked_at + seconds(life - std::min<int64_t>(life / 4, 60)),
          .ends_at = asked_at + seconds(declared)};
}

void TokenService::refuse(const HttpResponse& response, const std::string& method,
                          bool has_credential) const {
  const std::string words = one_line(secrets_.scrub(oauth_error(response)));
  if (!words.empty() && refuses_grant(response.status)) {
    throw AuthError(fmt::format("{} {}: status {} ({}); the token service does not accept this login", method,
                                response.url->redacted(), response.status, words),
                    response.status);
  }
  throw_status(response, {.method = method,
                          .repository = options_.repository,
                          .has_credential = has_credential,
                          .scrub = [this](std::string text) { return secrets_.scrub(std::move(text)); }});
}

}  // namespace obd::registry
