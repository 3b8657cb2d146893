#include "registry/warnings.h"

#include <spdlog/spdlog.h>

#include <mutex>
#include <optional>
#include <set>

#include "registry/http_error.h"

namespace obd::registry {
namespace {

constexpr size_t kMaxWarnings = 20;

/// TEXT of `299 - "TEXT"`: quotes and backslashes within are escaped.
std::optional<std::string> text_of(std::string_view value) {
  constexpr std::string_view kCode = "299 ";
  if (!value.starts_with(kCode)) return std::nullopt;
  const size_t open = value.find('"');
  if (open == std::string_view::npos) return std::nullopt;
  std::string text;
  for (size_t at = open + 1; at < value.size() && value[at] != '"'; ++at) {
    if (value[at] == '\\' && at + 1 < value.size()) ++at;
    text += value[at];
  }
  return text;
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
    const auto text = text_of(header.value);
    if (!text) continue;
    const std::string line = quote_line(*text);
    if (!line.empty() && is_new(response.url->host() + ' ' + line)) {
      spdlog::warn("{} warns: {}", response.url->host(), line);
    }
  }
}

}  // namespace obd::registry
