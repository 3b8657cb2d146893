#include "registry/auth.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/error.h"
#include "registry/http_error.h"
#include "common/json.h"

namespace obd::registry {
namespace {

using std::chrono::seconds;

constexpr uint64_t kMaxTokenAnswerBytes = 1 << 20;
/// What the token specification gives a token that does not say for how long it lives, and the least that any
/// is believed to have: some issuers send 0.
constexpr int64_t kShortestLife = 60;
constexpr int64_t kLongestLife = 86400;

std::string parameter(const Challenge& challenge, const std::string& name) {
  const auto found = challenge.parameters.find(name);
  return found == challenge.parameters.end() ? std::string() : found->second;
}

/// It goes into a header.
void check_token(const std::string& token, const Url& url) {
  const bool printable = std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 127; });
  if (token.empty() || !printable) {
    throw AuthError(fmt::format("GET {}: the answer holds no usable token", url.redacted()), 0);
  }
}

int64_t life_of(const Json& answer) {
  const auto field = answer.find("expires_in");
  if (field == answer.end() || !field->is_number_integer()) return kShortestLife;
  return std::clamp(field->get<int64_t>(), kShortestLife, kLongestLife);
}

void replace_all(std::string& text, const std::string& secret) {
  if (secret.size() < 4) return;  // would make confetti of any text
  for (size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3)) {
    text.replace(at, secret.size(), "***");
  }
}

}  // namespace

Authenticator::Authenticator(Transport& transport, Options options)
    : transport_(transport), options_(std::move(options)) {}

std::optional<std::string> Authenticator::basic() const {
  if (!options_.credential) return std::nullopt;
  return basic_authorization(options_.credential->user, options_.credential->password);
}

std::optional<std::string> Authenticator::authorization(Access access, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!challenge_) return std::nullopt;
  if (challenge_->scheme == "basic") return basic();
  Slot& slot = slots_[access];
  fetched_.wait(lock, stop, [&] { return !slot.fetching; });
  if (stop.stop_requested()) throw Cancelled();
  if (!slot.token || options_.now() >= slot.token->refresh_at) {
    slot.fetching = true;
    const Challenge challenge = *challenge_;
    lock.unlock();
    std::optional<Token> token;
    std::exception_ptr failure;
    try {
      token = fetch(challenge, access, stop);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    slot.fetching = false;
    slot.token = std::move(token);
    fetched_.notify_all();
    if (failure) std::rethrow_exception(failure);
  }
  return fmt::format("Bearer {}", slot.token->text);
}

bool Authenticator::learn(const HttpResponse& response, const std::optional<std::string>& used) {
  std::vector<Challenge> challenges;
  for (const Header& header : response.headers) {
    if (header.name != "www-authenticate") continue;
    for (Challenge& challenge : parse_challenges(header.value)) challenges.push_back(std::move(challenge));
  }
  const auto find = [&](std::string_view scheme) {
    return std::find_if(challenges.begin(), challenges.end(), [&](auto& c) { return c.scheme == scheme; });
  };
  auto choice = find("bearer");
  if (choice == challenges.end()) {
    choice = find("basic");
    const bool rejected = used && used->starts_with("Basic ");
    if (choice == challenges.end() || rejected || !options_.credential) return false;
  }
  const std::lock_guard lock(mutex_);
  challenge_ = std::move(*choice);
  registry_ = response.url;
  for (auto& [access, slot] : slots_) {  // unless another thread has replaced it meanwhile
    if (slot.token && used && *used == fmt::format("Bearer {}", slot.token->text)) slot.token.reset();
  }
  return true;
}

Url Authenticator::token_url(const Challenge& challenge, Access access) const {
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
  if (const std::string service = parameter(challenge, "service"); !service.empty()) {
    url = url->with_query("service", service);
  }
  return url->with_query("scope", fmt::format("repository:{}:{}", options_.repository,
                                              access == Access::kPush ? "pull,push" : "pull"));
}

Authenticator::Token Authenticator::fetch(const Challenge& challenge, Access access,
                                          const std::stop_token& stop) {
  std::optional<Url> url;
  {
    const std::lock_guard lock(mutex_);
    url = token_url(challenge, access);
  }
  HttpRequest request{.method = "GET", .url = *url, .max_body_bytes = kMaxTokenAnswerBytes};
  request.headers.push_back({"Accept", "application/json"});
  if (const auto authorization = basic()) request.headers.push_back({"Authorization", *authorization});
  const auto asked_at = options_.now();
  const HttpResponse response = with_retries(options_.retry, stop, [&] {
    HttpResponse answer = exchange_following(transport_, request, stop);
    if (!answer.ok()) {
      throw_status(answer, {.method = "GET",
                            .repository = options_.repository,
                            .has_credential = has_credential(),
                            .pushing = access == Access::kPush,
                            .scrub = [this](std::string text) { return scrub(std::move(text)); }});
    }
    return answer;
  });
  const Json answer = parse_json(response.body, fmt::format("GET {}", url->redacted()));
  std::string token = text_field(answer, "token");
  if (token.empty()) token = text_field(answer, "access_token");
  check_token(token, *url);
  const int64_t life = life_of(answer);
  spdlog::debug("token host={} repository={} life_s={}", url->host(), options_.repository, life);
  return {std::move(token), asked_at + seconds(life - std::min<int64_t>(life / 4, 60))};
}

std::string Authenticator::scrub(std::string text) const {
  if (options_.credential) {
    replace_all(text, options_.credential->password);
    replace_all(text, basic()->substr(6));
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [access, slot] : slots_) {
    if (slot.token) replace_all(text, slot.token->text);
  }
  return text;
}

}  // namespace obd::registry
