#include "registry/warnings.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/log.h"
#include "registry/http_error.h"

namespace obd::registry {
namespace {

constexpr size_t kMaxWarnings = 20;

/// What stands in quotes at the front of `text`, which loses it; quotes and backslashes within are escaped.
std::string take_quoted(std::string_view& text) {
  std::string quoted;
  size_t at = 1;
  for (; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\' && at + 1 < text.size()) ++at;
    quoted += text[at];
  }
  text.remove_prefix(std::min(at + 1, text.size()));
  return quoted;
}

/// TEXT of each `299 AGENT "TEXT" ["DATE"]`; commas part them.
std::vector<std::string> texts_of(std::string_view value) {
  std::vector<std::string> texts;
  while (!value.empty()) {
    value.remove_prefix(std::min(value.find_first_not_of(", \t"), value.size()));
    const bool is_shown = value.starts_with("299 ");
    const size_t open = std::min(value.find_first_of("\","), value.size());
    value.remove_prefix(open);
    if (value.starts_with('"')) {
      std::string text = take_quoted(value);
      if (is_shown) texts.push_back(std::move(text));
    }
    while (!value.empty() && value.front() != ',') {  // a date, which has commas of its own
      if (value.front() == '"') {
        take_quoted(value);
      } else {
        value.remove_prefix(1);
      }
    }
  }
  return texts;
}

bool is_new(const std::string& warning) {
  static std::mutex mutex;  // guards `seen`
  static std::set<std::string> seen;
  const std::lock_guard lock(mutex);
  return seen.size() < kMaxWarnings && seen.insert(warning).second;
}

}  // namespace

void log_warnings(const HttpResponse& response) {
  for (const Header& header : response.headers) {
    if (header.name != "warning") continue;
    for (const std::string& text : texts_of(header.value)) {
      const std::string line = quote_line(text);
      if (!line.empty() && is_new(response.url->host() + ' ' + line)) {
        log::warn("{} warns: {}", response.url->host(), line);
      }
    }
  }
}

}  // namespace obd::registry
