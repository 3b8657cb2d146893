#include "dedupdb/sqlite_backend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "common/error.h"
#include "dedupdb/mysql_dsn.h"
#include "dedupdb/schema.h"
#include "dedupdb/sqlite_lease.h"
#include "dedupdb/sqlite_session.h"

namespace obd::dedupdb {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kApplicationId = 0x4F424444;  // "OBDD"
constexpr int64_t kSchemaVersion = 1;

/// Whether the file is a database of ours with its tables; false if it is empty. Others are a DbError.
bool has_schema(SqliteSession& session) {
  const int64_t application = session.pragma("application_id");
  const int64_t version = session.pragma("user_version");
  if (application == kApplicationId && version == kSchemaVersion) return true;
  if (application == kApplicationId) {
    throw DbError(
        fmt::format("the file has schema version {}, this program knows {}: a newer program made it", version,
                    kSchemaVersion));
  }
  const bool is_empty = session.query("SELECT COUNT(*) FROM sqlite_master", {}).at(0).at(0) == "0";
  if (application != 0 || version != 0 || !is_empty) {
    // Another process may have made it between these reads: all of it becomes visible at once.
    if (application == 0 && session.pragma("application_id") == kApplicationId) return has_schema(session);
    throw DbError("the file is an SQLite database of another program; choose another path");
  }
  return false;
}

void make_schema(SqliteSession& session) {
  session.begin();
  // Another process may have been faster.
  if (!has_schema(session)) {
    for (const std::string& statement : sqlite_create_statements()) session.run_script(statement);
    session.run_script(
        fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId, kSchemaVersion));
  }
  session.commit();
}

}  // namespace

std::unique_ptr<Session> SqliteBackend::open(bool create) {
  std::error_code error;
  const fs::path directory = path_.has_parent_path() ? path_.parent_path() : ".";
  if (!fs::is_directory(directory, error)) {
    throw DbError(fmt::format("there is no directory '{}': make it first", directory.string()));
  }
  if (fs::is_directory(path_, error)) throw DbError("the path is a directory, not a file");
  auto session = std::make_unique<SqliteSession>(path_, create);
  if (!has_schema(*session)) {
    if (!create) return session;
    session->run_script("PRAGMA journal_mode = WAL");
    make_schema(*session);
  }
  session->run_script("PRAGMA synchronous = NORMAL");
  return session;
}

std::unique_ptr<Session> SqliteBackend::connect() {
  return open(true);
}

std::unique_ptr<Session> SqliteBackend::connect_existing() {
  std::error_code error;
  if (!fs::exists(path_, error)) return nullptr;
  return open(false);
}

void SqliteBackend::create_tables(Session&) {
  // connect() has done it.
}

TableShape SqliteBackend::shape(Session& session, const std::string& table) {
  TableShape shape;
  std::vector<std::pair<std::string, std::string>> key;
  for (const TextRow& row :
       session.query("SELECT name, lower(type), pk FROM pragma_table_info(?) ORDER BY cid", {table})) {
    shape.columns.push_back({row[0], row[1]});
    if (row[2] != "0") key.emplace_back(row[2], row[0]);
  }
  std::sort(key.begin(), key.end());
  for (auto& [number, name] : key) shape.primary_key.push_back(std::move(name));
  return shape;
}

std::unique_ptr<Lease> SqliteBackend::acquire(const std::string& name, bool wait, std::stop_token stop) {
  return acquire_file_lease(path_, name, wait, stop);
}

std::string SqliteBackend::on_conflict(const std::vector<std::string>& key,
                                       const std::vector<std::string>& columns) const {
  std::vector<std::string> updates;
  for (const std::string& column : columns) {
    if (std::find(key.begin(), key.end(), column) != key.end()) continue;
    updates.push_back(fmt::format("{0} = excluded.{0}", column));
  }
  return fmt::format("ON CONFLICT ({}) DO UPDATE SET {}", fmt::join(key, ", "), fmt::join(updates, ", "));
}

std::string SqliteBackend::behind(const std::vector<std::string>& key) const {
  return fmt::format("({}) > ({})", fmt::join(key, ", "),
                     fmt::join(std::vector<const char*>(key.size(), "?"), ", "));
}

Parameters SqliteBackend::behind_parameters(const std::vector<std::string>& position) const {
  return {position.begin(), position.end()};
}

std::unique_ptr<Backend> make_sqlite_backend(const Options& options) {
  const std::string& path = options.location;
  if (path.empty()) throw UsageError("the SQLite database has no path");
  if (looks_like_mysql_dsn(path)) {
    throw UsageError(
        "the database's location is that of a MySQL server, but its type is sqlite: "
        "say --db-type mysql");
  }
  if (path == ":memory:" || path.starts_with("file:") || path.find('\0') != std::string::npos) {
    throw UsageError("an SQLite database is given by the plain path of a file");
  }
  return std::make_unique<SqliteBackend>(path);
}

}  // namespace obd::dedupdb
