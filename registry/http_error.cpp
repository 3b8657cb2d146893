#include "registry/http_error.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "common/json.h"
#include "registry/retry.h"
#include "registry/text.h"

namespace obd::registry {
namespace {

using std::chrono::seconds;

constexpr size_t kMaxQuotedBytes = 300;
constexpr int64_t kLongestRetryAfter = 24 * 3600;

bool is_retryable(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

struct RegistryWords {
  std::string code;  // of the distribution specification
  std::string text;  // to be shown; has the code
};

/// What a page shows, without its markup; its title if it has one.
std::string words_of_page(std::string_view page) {
  const std::string small = lower_case(page);
  const size_t title = small.find("<title");
  const size_t title_end = small.find("</title", title);
  if (title != std::string::npos && title_end != std::string::npos) {
    page = page.substr(title, title_end - title);
  }
  std::string words;
  bool markup = false;
  for (const char c : page) {
    if (c == '<') markup = true;
    const bool space = markup || c == ' ' || c == '\n' || c == '\r' || c == '\t';
    if (!space) {
      words += c;
    } else if (!words.empty() && words.back() != ' ') {
      words += ' ';
    }
    if (c == '>') markup = false;
  }
  if (words.ends_with(' ')) words.pop_back();
  return words;
}

/// The first of the errors that the distribution specification has a registry send.
RegistryWords words_of_registry(const HttpResponse& response) {
  try {
    const Json document = parse_json(response.body, "");
    if (!document.is_object()) return {};
    const auto errors = document.find("errors");
    if (errors == document.end() || !errors->is_array() || errors->empty()) {
      return {"", text_field(document, "details") + text_field(document, "message")};
    }
    const Json& first = errors->front();
    const std::string code = text_field(first, "code");
    return {code, fmt::format("{}: {}", code, text_field(first, "message"))};
  } catch (const DataError&) {  // many proxies answer in HTML
    const std::string_view body = response.body;
    const size_t first = std::min(body.find_first_not_of(" \r\n\t"), body.size());
    if (body.substr(first).starts_with('<')) return {"", words_of_page(body)};
    const bool plain = response.header("content-type").value_or("text/plain").starts_with("text/plain");
    return {"", plain ? response.body : ""};
  }
}

std::string hint_for_missing(const HttpResponse& response, const std::string& code,
                             const FailureContext& context) {
  const bool manifest = response.url->text().find("/manifests/") != std::string::npos;
  if (code == "NAME_UNKNOWN") return fmt::format("the registry has no repository {}", context.repository);
  if (code == "MANIFEST_UNKNOWN" || (manifest && !context.pushing)) {
    return fmt::format("{} has no such tag or digest{}", context.repository,
                       code.empty() ? ", or there is no such repository" : "");
  }
  if (code == "BLOB_UNKNOWN") return fmt::format("{} does not have that blob (any more)", context.repository);
  return {};
}

/// Docker Hub counts in `ratelimit-limit: 100;w=21600`.
std::string hint_for_limit(const HttpResponse& response, const FailureContext& context) {
  std::string hint = "the registry limits how often it is asked";
  const auto limit = response.header("ratelimit-limit");
  if (limit) hint += fmt::format(" (limit {}", quote_line(limit->substr(0, 40)));
  const auto remaining = response.header("ratelimit-remaining");
  if (limit && remaining) hint += fmt::format(", remaining {}", quote_line(remaining->substr(0, 40)));
  if (limit) hint += ")";
  return hint +
         (context.has_credential ? "; try later" : "; try later, or with a login, which often raises that");
}

/// Servers of TLS say so in the page of a 400.
std::string hint_for_page(const HttpResponse& response) {
  const auto says = [&](std::string_view words) { return response.body.find(words) != std::string::npos; };
  if (says("No required SSL certificate was sent") || says("The SSL certificate error")) {
    return "the server wants a certificate from us that it accepts: --client-cert";
  }
  if (says("plain HTTP request was sent to HTTPS port") || says("HTTP request to an HTTPS server")) {
    return "the server speaks https: leave out --plain";
  }
  return {};
}

std::string hint_for(const HttpResponse& response, const std::string& code, const FailureContext& context) {
  if (code == "MANIFEST_BLOB_UNKNOWN") {
    return "the manifest names a blob that the registry has lost since; try again";
  }
  if (code == "DIGEST_INVALID") return "what arrived is not what was sent; try again";
  switch (response.status) {
    case 400:
      return hint_for_page(response);
    case 401:
      return context.has_credential
                 ? "the login that it was given was not accepted"
                 : fmt::format("{} wants a login: give a user name and a password", context.repository);
    case 403:
      return fmt::format("{} may not {} {}", context.has_credential ? "this user" : "who has not logged in",
                         context.pushing ? "push to" : "pull from", context.repository);
    case 407:
      return "a proxy wants a login: HTTP_PROXY=http://USER:PASSWORD@HOST:PORT";
    case 413:
      return "the registry, or a proxy before it, limits the size of an upload";
    case 404:
      return hint_for_missing(response, code, context);
    case 405:
      return context.pushing ? "the registry does not take pushes; is it a mirror or read-only?" : "";
    case 429:
      return hint_for_limit(response, context);
    case 500:
    case 502:
    case 503:
    case 504:
      return "the registry, or a proxy before it, is overloaded or broken; its log knows more; try later";
    default:
      return {};
  }
}

/// Seconds or a date (RFC 9110 §10.2.3); at most a day.
std::optional<seconds> retry_after(const HttpResponse& response) {
  const auto value = response.header("retry-after");
  if (!value) return std::nullopt;
  int64_t count = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), count);
  if (error == std::errc::result_out_of_range) {
    count = kLongestRetryAfter;
  } else if (error != std::errc() || end != value->data() + value->size()) {
    const time_t date = curl_getdate(value->c_str(), nullptr);
    if (date < 0) return std::nullopt;
    count = static_cast<int64_t>(date) - static_cast<int64_t>(std::time(nullptr));
  }
  return seconds(std::clamp<int64_t>(count, 0, kLongestRetryAfter));
}

/// The length of the sequence of UTF-8 at the front, 0 if it is none or no character to be shown.
size_t printable_length(std::string_view text) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  if (byte(0) < 0x80) return byte(0) >= ' ' && byte(0) != 127 ? 1 : 0;
  const size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : byte(0) >= 0xC2 ? 2 : 0;
  if (length == 0 || byte(0) > 0xF4 || text.size() < length) return 0;
  for (size_t at = 1; at < length; ++at) {
    if ((byte(at) & 0xC0) != 0x80) return 0;
  }
  const bool control = byte(0) == 0xC2 && byte(1) < 0xA0;  // the second set, which terminals obey too
  return control ? 0 : length;
}

}  // namespace

std::string quote_line(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t length = printable_length(text);
    if (result.size() + std::max<size_t>(length, 1) > kMaxQuotedBytes) break;
    if (length == 0) {
      result += ' ';
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

void throw_status(const HttpResponse& response, const FailureContext& context) {
  std::string message =
      fmt::format("{} {}: status {}", context.method, response.url->redacted(), response.status);
  // Secrets go first: of one that is cut off, a part would stay.
  const RegistryWords said = words_of_registry(response);
  const std::string words = quote_line(context.scrub(said.text));
  if (!words.empty()) message += fmt::format(" ({})", words);
  if (const std::string hint = hint_for(response, said.code, context); !hint.empty() && !context.foreign) {
    message += fmt::format("; {}", hint);
  }
  if (!context.foreign && (response.status == 401 || response.status == 403))
    throw AuthError(message, response.status);
  const auto delay = retry_after(response);
  if (delay && delay->count() > 0) {
    message += fmt::format("; it asks us to come back in {} s", delay->count());
  }
  throw StatusError(message, response.status, is_retryable(response.status), delay);
}

void check_manifest_digest(const Digest& found, const std::string& reference, const HttpResponse& response) {
  const auto check = [&](std::string_view expected, std::string_view who) {
    if (!Digest::is_valid(expected) || expected == found.text()) return;
    throw DataError(fmt::format("GET {}: the content has the digest {}, but {} {}", response.url->redacted(),
                                found.text(), who, expected));
  };
  check(reference, "what was asked for is");
  check(response.header("docker-content-digest").value_or(""), "the registry calls it");
}

}  // namespace obd::registry
