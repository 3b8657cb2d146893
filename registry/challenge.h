#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace obd::registry {

/// One way to log in that a server offers (RFC 9110 §11.6.1).
struct Challenge {
  std::string scheme;                             // lower case
  std::map<std::string, std::string> parameters;  // names in lower case
};

/// The challenges of one WWW-Authenticate header. What is malformed ends the list; nothing throws.
std::vector<Challenge> parse_challenges(std::string_view header);

/// "Basic …" for an Authorization header.
std::string basic_authorization(std::string_view user, std::string_view password);

/// None if `text` is not base64 as RFC 4648 §4 has it, with its padding.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace obd::registry
