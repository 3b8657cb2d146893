#pragma once

#include <string>
#include <string_view>

namespace obd::registry {

/// ASCII alone, whatever the locale: names of headers, hosts and schemes.
std::string lower_case(std::string_view text);

}  // namespace obd::registry
