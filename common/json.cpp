#include "common/json.h"

#include <fmt/format.h>

#include "common/error.h"

namespace obd {
namespace {

constexpr int kMaxDepth = 64;

}  // namespace

Json parse_json(std::string_view text, const std::string& what) {
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) {
      throw DataError(fmt::format("{}: its JSON is nested deeper than {} levels", what, kMaxDepth));
    }
    return true;
  };
  try {
    return Json::parse(text, limit_depth);
  } catch (const nlohmann::json::exception&) {  // the library's message quotes the input
    throw DataError(fmt::format("{}: not valid JSON", what));
  }
}

std::string text_field(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto field = object.find(key);
  return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

}  // namespace obd
