#include "dedupdb/dedup_db.h"

#include <algorithm>

#include "common/error.h"

namespace obd::dedupdb {

std::string Key::text() const {
  OBD_CHECK(Digest::is_valid(digest.text()));
  OBD_CHECK(variant.size() >= 16 && variant.size() <= 64);
  OBD_CHECK(variant.find_first_not_of("0123456789abcdef") == std::string::npos);
  return digest.text() + '+' + variant;
}

bool Status::ok() const {
  const auto good = [](const TableStatus& table) { return table.present && table.problem.empty(); };
  return good(layers) && good(manifests);
}

}  // namespace obd::dedupdb
