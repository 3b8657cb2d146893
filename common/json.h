#pragma once

// For .cpp files alone: public headers stay free of third-party ones.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace obd {

/// Keeps the order of an object's fields, so that what we rewrite differs only where we meant it to.
using Json = nlohmann::ordered_json;

/// Parses a document from outside. Throws DataError, naming `what`, if it is malformed or nested deeper than
/// any honest one: printing and walking recurse.
Json parse_json(std::string_view text, const std::string& what);

/// The text of a field; empty if there is no such field or it holds something else.
std::string text_field(const Json& object, const char* key);

}  // namespace obd
