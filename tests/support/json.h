#pragma once

#include "common/json.h"

namespace obd::test {

/// Parses what a test made, or what was made of it; the library's parser would be compiled for each file.
inline Json json_of(std::string_view text) {
  return parse_json(text, "a document of this test");
}

}  // namespace obd::test
