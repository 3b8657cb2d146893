#include "dedupdb/dedup_db.h"

#include <fmt/format.h>

#include "common/error.h"
#include "dedupdb/sql_dedup_db.h"

namespace obd::dedupdb {

bool Status::ok() const {
  const auto good = [](const TableStatus& table) { return table.present && table.problem.empty(); };
  return good(layers) && good(manifests);
}

std::unique_ptr<DedupDb> open_dedup_db(const Options& options) {
  const auto over = [&](std::unique_ptr<Backend> backend) {
    return std::make_unique<SqlDedupDb>(std::move(backend), options.retry);
  };
  if (options.type == "sqlite") return over(make_sqlite_backend(options));
  if (options.type == "mysql") return over(make_mysql_backend(options));
  throw UsageError(fmt::format("database type '{}' is unknown: use sqlite or mysql", options.type));
}

}  // namespace obd::dedupdb
