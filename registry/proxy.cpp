#include "registry/proxy.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "common/c_handle.h"
#include "common/error.h"
#include "registry/reference.h"
#include "registry/text.h"
#include "registry/transport.h"

namespace obd::registry {
namespace {

using CurlUrl = CHandle<CURLU, curl_url_cleanup>;

constexpr std::array<std::string_view, 6> kSchemes = {"http",    "https",  "socks4",
                                                      "socks4a", "socks5", "socks5h"};

struct Setting {
  std::string variable;
  std::string value;
};

/// The first that is set, and not empty.
std::optional<Setting> find_setting(const std::vector<const char*>& variables) {
  for (const char* variable : variables) {
    const char* value = std::getenv(variable);
    if (value && *value) return Setting{variable, value};
  }
  return std::nullopt;
}

std::optional<Setting> setting_for(const Url& url) {
  if (url.is_https()) return find_setting({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"});
  if (std::getenv("REQUEST_METHOD")) return find_setting({"http_proxy", "all_proxy", "ALL_PROXY"});
  return find_setting({"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"});
}

/// Empty if there is no such part.
std::string part_of(CURLU* handle, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(handle, part, &text, 0) != CURLUE_OK) return {};
  const CHandle<char, curl_free> owner(text);
  return text;
}

Proxy parse_proxy(const Setting& setting) {
  const auto refuse = [&](std::string_view why) {
    return TransportError(fmt::format("{}: {}", setting.variable, why), TransportError::Kind::kOther, false);
  };
  const bool has_scheme = setting.value.find("://") != std::string::npos;
  const std::string url = has_scheme ? setting.value : "http://" + setting.value;
  const CurlUrl handle(curl_url());
  OBD_CHECK(handle);
  const bool parsed =
      curl_url_set(handle.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;
  // A password with a slash in it would end the host, and be shown as a part of it.
  const auto has_at = [&](CURLUPart part) {
    return part_of(handle.get(), part).find('@') != std::string::npos;
  };
  if (!parsed || has_at(CURLUPART_PATH) || has_at(CURLUPART_QUERY) || has_at(CURLUPART_FRAGMENT)) {
    throw refuse(
        "it is not the URL of a proxy (http://USER:PASSWORD@HOST:PORT, with / ? # @ : in a password as "
        "%2F %3F %23 %40 %3A)");
  }
  if (std::count(kSchemes.begin(), kSchemes.end(), part_of(handle.get(), CURLUPART_SCHEME)) == 0) {
    throw refuse(
        fmt::format("its scheme is none of a proxy that can be used: {}", fmt::join(kSchemes, ", ")));
  }
  const std::string port = part_of(handle.get(), CURLUPART_PORT);
  const std::string host = part_of(handle.get(), CURLUPART_HOST);
  return {.variable = setting.variable,
          .url = url,
          .host = port.empty() ? host : fmt::format("{}:{}", host, port),
          .has_login = !part_of(handle.get(), CURLUPART_USER).empty()};
}

struct Address {
  int family = AF_INET;
  std::array<unsigned char, 16> bytes{};
  unsigned bits() const { return family == AF_INET ? 32 : 128; }
};

std::optional<Address> parse_address(std::string_view text) {
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  const std::string copy(text);
  for (const int family : {AF_INET, AF_INET6}) {
    Address address{.family = family};
    if (::inet_pton(family, copy.c_str(), address.bytes.data()) == 1) return address;
  }
  return std::nullopt;
}

/// `range` is ADDRESS or ADDRESS/BITS.
bool is_within(const Address& address, std::string_view range) {
  const size_t slash = range.find('/');
  const auto base = parse_address(range.substr(0, slash));
  if (!base || base->family != address.family) return false;
  unsigned bits = base->bits();
  if (slash != std::string_view::npos) {
    const std::string_view count = range.substr(slash + 1);
    const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), bits);
    if (error != std::errc() || end != count.data() + count.size() || bits > base->bits()) return false;
  }
  for (unsigned i = 0; i < bits; ++i) {
    const unsigned bit = 0x80U >> (i % 8);
    if (((base->bytes[i / 8] ^ address.bytes[i / 8]) & bit) != 0) return false;
  }
  return true;
}

bool names_domain(std::string_view entry, std::string_view host) {
  const bool only_below = entry.starts_with("*.");
  if (only_below) entry.remove_prefix(1);
  if (entry.starts_with('.')) entry.remove_prefix(1);
  if (entry.ends_with('.')) entry.remove_suffix(1);
  if (host.ends_with('.')) host.remove_suffix(1);
  if (entry.empty() || host.size() < entry.size()) return false;
  const size_t before = host.size() - entry.size();
  if (lower_case(host.substr(before)) != lower_case(entry)) return false;
  return before == 0 ? !only_below : host[before - 1] == '.';
}

bool names(std::string_view entry, std::string_view host, std::string_view port) {
  if (entry == "*") return true;
  const size_t colon = entry.rfind(':');
  // More than one colon without brackets is an address of IPv6.
  const bool has_port =
      colon != std::string_view::npos && (entry.find(':') == colon || (colon > 0 && entry[colon - 1] == ']'));
  if (has_port) {
    if (entry.substr(colon + 1) != port) return false;
    entry = entry.substr(0, colon);
  }
  if (const auto address = parse_address(host)) return is_within(*address, entry);
  return names_domain(entry, host);
}

}  // namespace

bool is_named_by_no_proxy(std::string_view list, std::string_view host, std::string_view port) {
  constexpr std::string_view kSeparators = ", \t";
  while (!list.empty()) {
    const size_t end = std::min(list.find_first_of(kSeparators), list.size());
    if (end > 0 && names(list.substr(0, end), host, port)) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

std::optional<Proxy> proxy_for(const Url& url) {
  if (is_loopback_host(url.host())) return std::nullopt;
  const auto setting = setting_for(url);
  if (!setting) return std::nullopt;
  const std::string& origin = url.origin();
  const std::string_view port = std::string_view(origin).substr(origin.rfind(':') + 1);
  const auto exceptions = find_setting({"no_proxy", "NO_PROXY"});
  if (exceptions && is_named_by_no_proxy(exceptions->value, url.host(), port)) return std::nullopt;
  return parse_proxy(*setting);
}

}  // namespace obd::registry
