#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "common/digest.h"
#include "registry/transport.h"

namespace obd::registry {

/// What the message of a failed request may need to know.
struct FailureContext {
  std::string method;
  std::string repository;
  bool has_credential = false;
  bool pushing = false;
  /// Not the registry answered, but a place that it sent us to: a login would not help.
  bool foreign = false;
  /// Takes what is secret out of a text that a server may have made of what we sent.
  std::function<std::string(std::string)> scrub;
};

/// What a server says, fit for a terminal: one line of printable characters, cut at 300 bytes.
std::string quote_line(std::string_view text);

/// Turns an answer into the exception for it: AuthError for a 401 or 403 of the registry, else StatusError.
/// The message has the method, the URL without its query, the status, the registry's own words, and what to
/// try.
[[noreturn]] void throw_status(const HttpResponse& response, const FailureContext& context);

/// Throws DataError for content that is not what was asked for, if that was a digest, or not what the
/// registry says that it sends (Docker-Content-Digest).
void check_manifest_digest(const Digest& found, const std::string& reference, const HttpResponse& response);

}  // namespace obd::registry
