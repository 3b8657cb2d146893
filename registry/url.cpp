#include "registry/url.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include "common/c_handle.h"
#include "common/error.h"
#include "registry/text.h"

namespace obd::registry {
namespace {

using CurlUrl = CHandle<CURLU, curl_url_cleanup>;

/// Empty if the URL has no such part.
std::string part_of(CURLU* handle, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(handle, part, &text, flags) != CURLUE_OK) return {};
  const CHandle<char, curl_free> owner(text);
  return text;
}

void set_part(CURLU* handle, CURLUPart part, const std::string& value, unsigned flags = 0) {
  if (value.find('\0') != std::string::npos ||
      curl_url_set(handle, part, value.c_str(), flags) != CURLUE_OK) {
    throw NetworkError("not a valid http or https URL");
  }
}

CurlUrl handle_for(const std::string& text) {
  CurlUrl handle(curl_url());
  OBD_CHECK(handle);
  set_part(handle.get(), CURLUPART_URL, text);
  return handle;
}

}  // namespace

Url Url::from_handle(void* opaque) {
  auto* handle = static_cast<CURLU*>(opaque);
  const std::string scheme = part_of(handle, CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    throw NetworkError(fmt::format("a URL of scheme '{}' is not followed", scheme.substr(0, 20)));
  }
  if (!part_of(handle, CURLUPART_USER).empty() || !part_of(handle, CURLUPART_PASSWORD).empty()) {
    throw NetworkError("a URL that holds credentials is not followed");
  }
  Url url;
  curl_url_set(handle, CURLUPART_FRAGMENT, nullptr, 0);
  url.text_ = part_of(handle, CURLUPART_URL);
  url.host_ = lower_case(part_of(handle, CURLUPART_HOST));
  url.origin_ =
      fmt::format("{}://{}:{}", scheme, url.host_, part_of(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT));
  return url;
}

Url Url::parse(const std::string& text) {
  return from_handle(handle_for(text).get());
}

Url Url::resolve(const std::string& location) const {
  const CurlUrl handle = handle_for(text_);
  set_part(handle.get(), CURLUPART_URL, location);
  return from_handle(handle.get());
}

Url Url::with_query(std::string_view key, std::string_view value) const {
  const CurlUrl handle = handle_for(text_);
  set_part(handle.get(), CURLUPART_QUERY, fmt::format("{}={}", key, value),
           CURLU_APPENDQUERY | CURLU_URLENCODE);
  return from_handle(handle.get());
}

std::string Url::redacted() const {
  const size_t query = text_.find('?');
  return query == std::string::npos ? text_ : text_.substr(0, query) + "?…";
}

}  // namespace obd::registry
