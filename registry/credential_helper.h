#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <stop_token>
#include <string>

#include "registry/registry.h"

namespace obd::registry {

struct HelperLimits {
  /// Long enough for somebody to type what unlocks a key ring.
  std::chrono::milliseconds timeout{120'000};
  size_t max_answer_bytes = 1 << 20;
};

/// Asks the program docker-credential-NAME, found in PATH, for its credential for `server`. It is started
/// without a shell and inherits no file but its standard input, output and error.
///
/// Returns none where the helper has no such credential.
/// Errors:  AuthError, with the program's own words, where it is missing, fails, does not end in time or
///          answers nonsense; UsageError for a name that is no plain file name. Cancelled, at once, when
///          `stop` fires. The program is killed in both cases.
/// Source:  the protocol of github.com/docker/docker-credential-helpers.
std::optional<Credential> ask_credential_helper(const std::string& name, const std::string& server,
                                                const std::stop_token& stop, const HelperLimits& limits = {});

}  // namespace obd::registry
