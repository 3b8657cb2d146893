#pragma once

#include <string>
#include <vector>

#include "dedupdb/dedup_db.h"
#include "dedupdb/session.h"

namespace obd::dedupdb {

/// The two tables differ in a few names only.
struct TableSchema {
  Table table;
  std::string name;
  std::string key_column;
  std::string digest_column;
  bool has_media_type;

  /// host, repo, key[, mediatype]: which row.
  std::vector<std::string> primary_key() const;
  /// The primary key, digest and data_size.
  std::vector<std::string> columns() const;
};

const TableSchema& schema_of(Table table);

/// CREATE TABLE statements, which do nothing where the table exists. Those of MySQL are the reference's own.
const std::vector<std::string>& mysql_create_statements();
const std::vector<std::string>& sqlite_create_statements();

/// What keeps us from using a table of that shape; empty: nothing. More columns than ours are no problem.
std::string shape_problem(const TableSchema& schema, const TableShape& shape);

}  // namespace obd::dedupdb
