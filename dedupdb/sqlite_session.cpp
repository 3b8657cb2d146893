#include "dedupdb/sqlite_session.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <unordered_map>

#include "common/c_handle.h"
#include "common/error.h"
#include "dedupdb/waiting.h"

namespace obd::dedupdb {
namespace {

/// How long a statement waits for another process's; the retries, which a stop request ends, come on top.
constexpr int kBusyMilliseconds = 1000;

using Connection = CHandle<sqlite3, sqlite3_close_v2>;
using Statement = CHandle<sqlite3_stmt, sqlite3_finalize>;

[[noreturn]] void fail(sqlite3* connection, int code) {
  const std::string cause = connection != nullptr ? sqlite3_errmsg(connection) : sqlite3_errstr(code);
  switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
      throw TransientDbError(cause);
    case SQLITE_NOMEM:
      throw std::bad_alloc();
    case SQLITE_NOTADB:
      throw DbError("the file is not an SQLite database");
    case SQLITE_CORRUPT:
      throw DbError(fmt::format("{}: remove the file; it is a cache and fills again", cause));
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      throw DbError(fmt::format("{} ({})", cause, sqlite3_errstr(sqlite3_extended_errcode(connection))));
    default:
      throw DbError(cause);
  }
}

}  // namespace

struct SqliteSession::State {
  Connection connection;
  std::unordered_map<std::string, Statement> statements;

  void check(int code) const {
    if (code != SQLITE_OK) fail(connection.get(), code);
  }

  Statement prepare(const std::string& sql) const {
    sqlite3_stmt* made = nullptr;
    check(sqlite3_prepare_v3(connection.get(), sql.data(), static_cast<int>(sql.size()),
                             SQLITE_PREPARE_PERSISTENT, &made, nullptr));
    return Statement(made);
  }

  /// The kept statement for `sql`, bound to `parameters`.
  sqlite3_stmt* bind(const std::string& sql, const Parameters& parameters) {
    auto found = statements.find(sql);
    if (found == statements.end()) found = statements.emplace(sql, prepare(sql)).first;
    sqlite3_stmt* statement = found->second.get();
    OBD_CHECK(sqlite3_bind_parameter_count(statement) == static_cast<int>(parameters.size()));
    int number = 0;
    for (const Parameter& parameter : parameters) {
      ++number;
      if (const auto* text = std::get_if<std::string>(&parameter)) {
        check(sqlite3_bind_text64(statement, number, text->data(), text->size(), SQLITE_TRANSIENT,
                                  SQLITE_UTF8));
      } else {
        check(sqlite3_bind_int64(statement, number, std::get<int64_t>(parameter)));
      }
    }
    return statement;
  }

  /// Steps to the end; a statement that is not reset would keep its lock.
  template <class OnRow>
  void step_through(sqlite3_stmt* statement, OnRow on_row) {
    const CHandle<sqlite3_stmt, sqlite3_reset> reset(statement);
    int code = 0;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) on_row();
    if (code != SQLITE_DONE) fail(connection.get(), code);
  }
};

SqliteSession::SqliteSession(const std::filesystem::path& path, bool create)
    : state_(std::make_unique<State>()) {
  sqlite3* made = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
  const int code = sqlite3_open_v2(path.c_str(), &made, flags, nullptr);
  state_->connection.reset(made);
  state_->check(code);
  state_->check(sqlite3_busy_timeout(made, kBusyMilliseconds));
  // The file may come from somebody else: its schema must not run what it likes.
  sqlite3_db_config(made, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(made, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

SqliteSession::~SqliteSession() = default;

std::vector<TextRow> SqliteSession::query(const std::string& sql, const Parameters& parameters) {
  sqlite3_stmt* statement = state_->bind(sql, parameters);
  std::vector<TextRow> rows;
  state_->step_through(statement, [&] {
    TextRow& row = rows.emplace_back();
    for (int column = 0; column < sqlite3_column_count(statement); ++column) {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      const auto bytes = static_cast<size_t>(sqlite3_column_bytes(statement, column));
      row.emplace_back(text != nullptr ? std::string(text, bytes) : std::string());
    }
  });
  return rows;
}

uint64_t SqliteSession::execute(const std::string& sql, const Parameters& parameters) {
  state_->step_through(state_->bind(sql, parameters), [] {});
  return static_cast<uint64_t>(sqlite3_changes64(state_->connection.get()));
}

// IMMEDIATE: a transaction that turned to writing only later could not wait for another writer.
void SqliteSession::begin() {
  execute("BEGIN IMMEDIATE", {});
}

void SqliteSession::commit() {
  execute("COMMIT", {});
}

int64_t SqliteSession::pragma(const std::string& name) {
  const Statement statement = state_->prepare("PRAGMA " + name);
  int64_t value = 0;
  state_->step_through(statement.get(), [&] { value = sqlite3_column_int64(statement.get(), 0); });
  return value;
}

void SqliteSession::run_script(const std::string& sql) {
  state_->check(sqlite3_exec(state_->connection.get(), sql.c_str(), nullptr, nullptr, nullptr));
}

}  // namespace obd::dedupdb
