#include "registry/http_error.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "common/json.h"
#include "registry/retry.h"

namespace obd::registry {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxQuotedBytes = 300;

bool is_retryable(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

/// What a server says goes to a terminal: one line of printable characters.
std::string quote(std::string_view text) {
  std::string result(text.substr(0, kMaxQuotedBytes));
  while (!result.empty() && (static_cast<unsigned char>(result.back()) & 0xC0) == 0x80) result.pop_back();
  std::replace_if(
      result.begin(), result.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; },
      ' ');
  return result;
}

/// The first of the errors that the distribution specification has a registry send.
std::string words_of_registry(const HttpResponse& response) {
  try {
    const Json document = parse_json(response.body, "");
    if (!document.is_object()) return {};
    const auto errors = document.find("errors");
    if (errors == document.end() || !errors->is_array() || errors->empty()) {
      return text_field(document, "details") + text_field(document, "message");
    }
    const Json& first = errors->front();
    return fmt::format("{}: {}", text_field(first, "code"), text_field(first, "message"));
  } catch (const DataError&) {  // many proxies answer in HTML, which helps nobody
    return response.header("content-type").value_or("text/plain").starts_with("text/plain") ? response.body
                                                                                            : "";
  }
}

std::string hint_for(int status, const FailureContext& context) {
  switch (status) {
    case 401:
      return context.has_credential
                 ? "the user name and the password were not accepted"
                 : fmt::format("{} wants a login: give a user name and a password", context.repository);
    case 403:
      return fmt::format("{} may not {} {}", context.has_credential ? "this user" : "who has not logged in",
                         context.pushing ? "push to" : "pull from", context.repository);
    case 413:
      return "the registry, or a proxy before it, limits the size of an upload";
    case 429:
      return context.has_credential ? "the registry limits how often it is asked; try later"
                                    : "the registry limits how often it is asked; a login often raises that";
    default:
      return {};
  }
}

/// Seconds or a date (RFC 9110 §10.2.3).
std::optional<milliseconds> retry_after(const HttpResponse& response) {
  const auto value = response.header("retry-after");
  if (!value) return std::nullopt;
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), seconds);
  if (error != std::errc() || end != value->data() + value->size()) {
    const time_t date = curl_getdate(value->c_str(), nullptr);
    if (date < 0) return std::nullopt;
    seconds = static_cast<int64_t>(date) - static_cast<int64_t>(std::time(nullptr));
  }
  return milliseconds(std::clamp<int64_t>(seconds, 0, 24 * 3600) * 1000);
}

}  // namespace

void throw_status(const HttpResponse& response, const FailureContext& context) {
  std::string message =
      fmt::format("{} {}: status {}", context.method, response.url->redacted(), response.status);
  // Secrets go first: of one that is cut off, a part would stay.
  const std::string words = quote(context.scrub(words_of_registry(response)));
  if (!words.empty()) message += fmt::format(" ({})", words);
  if (const std::string hint = hint_for(response.status, context); !hint.empty() && !context.foreign) {
    message += fmt::format("; {}", hint);
  }
  if (!context.foreign && (response.status == 401 || response.status == 403))
    throw AuthError(message, response.status);
  throw StatusError(message, response.status, is_retryable(response.status), retry_after(response));
}

}  // namespace obd::registry
