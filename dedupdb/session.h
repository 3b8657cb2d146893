#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

#include "dedupdb/dedup_db.h"

// What the two databases have in common, as the shared code (sql_dedup_db) sees it.

namespace obd::dedupdb {

using Parameter = std::variant<std::string, int64_t>;
using Parameters = std::vector<Parameter>;
/// The values of a row as text.
using TextRow = std::vector<std::string>;

/// One connection. One thread at a time. After an exception the session must be thrown away.
/// Errors: TransientDbError, DbError; their text says what the database said, without the password.
class Session {
 public:
  virtual ~Session() = default;
  /// Runs a SELECT, prepared and kept: `sql` must be one of a few texts.
  virtual std::vector<TextRow> query(const std::string& sql, const Parameters& parameters) = 0;
  /// Runs anything else likewise; how many rows it concerned.
  virtual uint64_t execute(const std::string& sql, const Parameters& parameters) = 0;
  /// A transaction that is going to write. A session that is destroyed in one rolls it back.
  virtual void begin() = 0;
  virtual void commit() = 0;
};

/// A column as the database describes it.
struct Column {
  std::string name;
  std::string type;
};

struct TableShape {
  std::vector<Column> columns;  // none: there is no such table
  std::vector<std::string> primary_key;
};

/// One kind of database. Any number of threads at the same time.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  /// Where SQLite makes the database and its tables if there are none.
  virtual std::unique_ptr<Session> connect() = 0;
  /// Makes nothing: null if there is no database yet.
  virtual std::unique_ptr<Session> connect_existing() = 0;
  /// Makes the tables that are missing.
  virtual void create_tables(Session& session) = 0;
  virtual TableShape shape(Session& session, const std::string& table) = 0;
  virtual std::unique_ptr<Lease> acquire(const std::string& name, bool wait, std::stop_token stop) = 0;

  /// What follows the VALUES of an INSERT so that it replaces `columns` of a row with the same `key`.
  virtual std::string on_conflict(const std::vector<std::string>& key,
                                  const std::vector<std::string>& columns) const = 0;
  /// A condition for rows behind one in the order of `key`; takes parameters as behind_parameters() gives.
  virtual std::string behind(const std::vector<std::string>& key) const = 0;
  virtual Parameters behind_parameters(const std::vector<std::string>& position) const = 0;
};

std::unique_ptr<Backend> make_sqlite_backend(const Options& options);
std::unique_ptr<Backend> make_mysql_backend(const Options& options);

}  // namespace obd::dedupdb
