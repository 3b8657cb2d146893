#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "registry/url.h"

namespace obd::registry {

/// A proxy that the environment names.
struct Proxy {
  std::string variable;  // that names it
  std::string url;       // for curl alone: it may hold a password
  std::string host;      // with its port, for messages
  bool has_login = false;
};

/// The proxy for requests to `url`: what http_proxy or https_proxy, in small letters or capitals, else
/// ALL_PROXY names. None for this machine, and for what NO_PROXY names. HTTP_PROXY in capitals does not count
/// where REQUEST_METHOD is set: a web server makes it of what its client says.
///
/// Errors: TransportError if what the variable holds cannot be used; it is not quoted, since it may hold a
/// password.
std::optional<Proxy> proxy_for(const Url& url);

/// Whether `list`, as NO_PROXY holds it, names the host: `*`; an address, or a range of them (10.0.0.0/8); a
/// domain, with or without a dot before it, for itself and all below it; `*.DOMAIN` for all below it. With
/// `:PORT` behind it, an entry counts for that port alone. An address of IPv6 stands in brackets, as `host`
/// does; only the list may leave them out.
bool is_named_by_no_proxy(std::string_view list, std::string_view host, std::string_view port);

}  // namespace obd::registry
