#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace obd::registry {

/// One repository of one registry, in normal form. Every part has been validated, so that it can stand in a
/// URL as it is.
struct RepositoryName {
  /// What is connected to: "registry-1.docker.io", "localhost:5000", "[::1]:5000".
  std::string authority;
  /// "library/ubuntu"
  std::string path;
  /// What users call it: "docker.io/library/ubuntu".
  std::string display;
  /// The host is this machine: plain HTTP may be tried, and no proxy lies between.
  bool loopback = false;

  /// The registry's part of `display`, which credentials are kept under.
  std::string host() const { return display.substr(0, display.size() - path.size() - 1); }
};

/// HOST[:PORT]/NAME in the forms that Docker accepts: without a host it is docker.io, and a name of one part
/// there is in library/. Throws UsageError, saying what is wrong, for a tag, a digest or a scheme as well.
RepositoryName parse_repository_name(std::string_view text);

/// `host` without a port: "localhost" and names below it, 127.0.0.0/8, "::1" with or without brackets.
bool is_loopback_host(std::string_view host);

/// Throws UsageError unless it is a tag; DataError if it looks like a digest but is none.
void check_reference(std::string_view reference);

}  // namespace obd::registry
