#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace obd {

/// RFC 3986, section 2.1: all but the unreserved characters as %XX.
std::string percent_encode(std::string_view text);

/// None if a % is not followed by two hex digits.
std::optional<std::string> percent_decode(std::string_view text);

}  // namespace obd
