#include "registry/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "common/digest.h"
#include "common/error.h"
#include "registry/registry.h"

namespace obd::registry {
namespace {

constexpr size_t kMaxNameLength = 255;  // of host and path together; distribution specification, "Pulling"
constexpr size_t kMaxTagLength = 128;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || is_digit(c);
}
bool is_alphanumeric(char c) {
  return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

/// Words of lower-case letters and digits, joined by one '.', one or two '_', or any number of '-'.
bool is_valid_component(std::string_view part) {
  size_t i = 0;
  for (;;) {
    const size_t word = i;
    while (i < part.size() && is_lower_or_digit(part[i])) ++i;
    if (i == word) return false;
    if (i == part.size()) return true;
    const char joint = part[i];
    const size_t begin = i;
    while (i < part.size() && part[i] == joint) ++i;
    const size_t length = i - begin;
    const bool joins = joint == '-' || (joint == '.' && length == 1) || (joint == '_' && length <= 2);
    if (!joins) return false;
  }
}

bool is_valid_path(std::string_view path) {
  for (;;) {
    const size_t slash = path.find('/');
    if (!is_valid_component(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool is_valid_host(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    return !host.empty() && host.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
  }
  if (host.empty() || host.front() == '.' || host.back() == '.' || host.front() == '-') return false;
  if (host.find("..") != std::string_view::npos) return false;
  return std::all_of(host.begin(), host.end(),
                     [](char c) { return is_alphanumeric(c) || c == '.' || c == '-'; });
}

bool is_valid_port(std::string_view port) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), value);
  return error == std::errc() && end == port.data() + port.size() && value >= 1 && value <= 65535;
}

struct Authority {
  std::string_view host;
  std::optional<std::string_view> port;
};

Authority split_authority(std::string_view text) {
  const size_t colon = text.rfind(':');
  const size_t bracket = text.rfind(']');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) {
    return {text, std::nullopt};
  }
  return {text.substr(0, colon), text.substr(colon + 1)};
}

/// Docker's rule: what could not be a part of a name is a host.
bool looks_like_host(std::string_view first) {
  return first == "localhost" || first.find_first_of(".:[") != std::string_view::npos ||
         std::any_of(first.begin(), first.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw UsageError(fmt::format("'{}' is not a repository: {}", text.substr(0, 300), why));
}

void refuse_common_mistakes(std::string_view text) {
  if (text.find("://") != std::string_view::npos) {
    refuse("…", "leave out the scheme (https://) and give HOST[:PORT]/NAME");
  }
  if (text.find('@') != std::string_view::npos) {
    refuse("…", "it holds an '@'; digests and credentials are given apart from the name");
  }
}

}  // namespace

RepositoryName parse_repository_name(std::string_view text) {
  refuse_common_mistakes(text);
  const size_t slash = text.find('/');
  std::string_view host = "docker.io";
  std::string_view path = text;
  if (slash != std::string_view::npos && looks_like_host(text.substr(0, slash))) {
    host = text.substr(0, slash);
    path = text.substr(slash + 1);
  }
  const Authority authority = split_authority(host);
  if (!is_valid_host(authority.host)) refuse(text, fmt::format("'{}' is not a host name", authority.host));
  if (authority.port && !is_valid_port(*authority.port)) {
    refuse(text, fmt::format("'{}' is not a port from 1 to 65535", *authority.port));
  }
  if (!is_valid_path(path)) {
    refuse(text, path.find(':') != std::string_view::npos
                     ? "a tag is given apart from the name"
                     : "a name is lower-case words joined by '/', '.', '_' and '-'");
  }
  if (text.size() > kMaxNameLength) refuse(text, fmt::format("it is longer than {} bytes", kMaxNameLength));

  RepositoryName name;
  name.path = path;
  name.authority = host;
  name.loopback = is_loopback_host(authority.host);
  if (host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io") {
    host = "docker.io";
    name.authority = "registry-1.docker.io";
    if (path.find('/') == std::string_view::npos) name.path = fmt::format("library/{}", path);
  }
  name.display = fmt::format("{}/{}", host, name.path);
  return name;
}

bool is_loopback_host(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host == "localhost" || host.ends_with(".localhost") || host == "::1") return true;
  // An address, not a name that starts like one.
  return host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
         std::all_of(host.begin(), host.end(), [](char c) { return is_digit(c) || c == '.'; });
}

bool is_valid_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > kMaxTagLength || tag.front() == '.' || tag.front() == '-') return false;
  return std::all_of(tag.begin(), tag.end(),
                     [](char c) { return is_alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

void check_reference(std::string_view reference) {
  if (reference.find(':') != std::string_view::npos) {
    Digest::parse(reference);
  } else if (!is_valid_tag(reference)) {
    throw UsageError(
        fmt::format("'{}' is not a tag: at most {} letters, digits, '_', '.' and '-', the first "
                    "of them no '.' or '-'",
                    reference.substr(0, kMaxTagLength + 1), kMaxTagLength));
  }
}

}  // namespace obd::registry
