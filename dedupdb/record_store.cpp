#include "dedupdb/record_store.h"

#include "common/error.h"

namespace obd::dedupdb {

std::string Key::text() const {
  std::string text = digest.text() + '+' + variant;
  OBD_CHECK(is_valid(text));
  return text;
}

bool Key::is_valid(std::string_view text) {
  const size_t plus = text.find('+');
  if (plus == std::string_view::npos || !Digest::is_valid(text.substr(0, plus))) return false;
  const std::string_view variant = text.substr(plus + 1);
  return variant.size() >= 16 && variant.size() <= 64 &&
         variant.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace obd::dedupdb
