#include "dedupdb/mysql_session.h"

#include <cppconn/connection.h>
#include <cppconn/driver.h>
#include <cppconn/exception.h>
#include <cppconn/prepared_statement.h>
#include <cppconn/resultset.h>
#include <cppconn/statement.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>

#include "common/error.h"
#include "dedupdb/waiting.h"

namespace obd::dedupdb {
namespace {

constexpr int kTlsFailed = 2026;

/// The library wants to hear of each thread that uses it, before and after.
sql::Driver& driver_of_this_thread() {
  static sql::Driver* const driver = get_driver_instance();
  struct Visit {
    Visit() { driver->threadInit(); }
    ~Visit() { driver->threadEnd(); }
  };
  thread_local const Visit visit;
  return *driver;
}

bool is_transient(const sql::SQLException& error) {
  // Connecting, lost connections, too many of them, shutdown; deadlocks, waits for locks, read conflicts.
  static constexpr std::array kCodes = {2002, 2003, 2005, 2006, 2013, 2055, 1040, 1053,
                                        1077, 1152, 1158, 1159, 1160, 1161, 1184, 1203,
                                        1226, 1927, 4031, 1020, 1205, 1213, 1614};
  return std::find(kCodes.begin(), kCodes.end(), error.getErrorCode()) != kCodes.end() ||
         error.getSQLState().starts_with("08") || error.getSQLState() == "40001";
}

std::string advice(int code) {
  switch (code) {
    case 1044:
    case 1045:
      return "; check user, password and the user's rights";
    case 1049:
      return "; make the database first: CREATE DATABASE";
    case 1146:
      return "; make the tables with 'obdctl db init'";
    case kTlsFailed:
      return "; check the parameter tls of the database's location, and whether this system trusts the "
             "server's certificate";
    default:
      return {};
  }
}

[[noreturn]] void fail(const sql::SQLException& error, const std::string& password) {
  const std::string text =
      fmt::format("{} (error {}, SQLSTATE {}){}", without_secret(error.what(), password),
                  error.getErrorCode(), error.getSQLState(), advice(error.getErrorCode()));
  if (is_transient(error)) throw TransientDbError(text);
  throw DbError(text);
}

int whole_seconds(std::chrono::milliseconds time) {
  return static_cast<int>(std::chrono::ceil<std::chrono::seconds>(time).count());
}

sql::ConnectOptionsMap connect_options(const MysqlDsn& dsn) {
  sql::ConnectOptionsMap options;
  if (dsn.socket.empty()) {
    const bool is_ipv6 = dsn.host.find(':') != std::string::npos;
    // With a scheme: the library takes a bare "localhost" for a socket.
    const std::string host = is_ipv6 ? fmt::format("[{}]", dsn.host) : dsn.host;
    options["hostName"] = sql::SQLString(fmt::format("tcp://{}:{}", host, dsn.port));
  } else {
    options["hostName"] = sql::SQLString("unix://" + dsn.socket);
  }
  options["userName"] = sql::SQLString(dsn.user);
  options["password"] = sql::SQLString(dsn.password);
  options["schema"] = sql::SQLString(dsn.database);
  options["OPT_CHARSET_NAME"] = sql::SQLString("utf8");
  options["OPT_CONNECT_TIMEOUT"] = whole_seconds(dsn.connect_timeout);
  options["OPT_READ_TIMEOUT"] = whole_seconds(dsn.read_timeout);
  options["OPT_WRITE_TIMEOUT"] = whole_seconds(dsn.write_timeout);
  return options;
}

std::unique_ptr<sql::Connection> connect(const MysqlDsn& dsn) {
  sql::Driver& driver = driver_of_this_thread();
  sql::ConnectOptionsMap options = connect_options(dsn);
  // Not OPT_SSL_MODE: built with MariaDB's library, the connector ignores that without a word.
  sql::ConnectOptionsMap encrypted = options;
  encrypted["sslEnforce"] = true;
  if (dsn.tls == MysqlTls::kVerify) encrypted["sslVerify"] = true;
  if (dsn.tls == MysqlTls::kOff) return std::unique_ptr<sql::Connection>(driver.connect(options));
  try {
    return std::unique_ptr<sql::Connection>(driver.connect(encrypted));
  } catch (const sql::SQLException& error) {
    if (dsn.tls != MysqlTls::kPreferred || error.getErrorCode() != kTlsFailed) throw;
  }
  return std::unique_ptr<sql::Connection>(driver.connect(options));
}

}  // namespace

std::string without_secret(const std::string& text, const std::string& secret) {
  // Blanking out only the password would show where it stood, and so what it is if it is a short one.
  return secret.empty() || text.find(secret) == std::string::npos ? text : "(its message is withheld)";
}

struct MysqlSession::State {
  std::string password;
  std::unique_ptr<sql::Connection> connection;
  std::unordered_map<std::string, std::unique_ptr<sql::PreparedStatement>> statements;

  /// What the connector throws becomes an exception of ours.
  template <class Work>
  auto guard(Work work) {
    try {
      driver_of_this_thread();
      return work();
    } catch (const sql::SQLException& error) {
      fail(error, password);
    }
  }

  /// The kept statement for `sql`, bound to `parameters`.
  sql::PreparedStatement& bind(const std::string& sql, const Parameters& parameters) {
    auto found = statements.find(sql);
    if (found == statements.end()) {
      std::unique_ptr<sql::PreparedStatement> made(connection->prepareStatement(sql));
      found = statements.emplace(sql, std::move(made)).first;
    }
    unsigned number = 0;
    for (const Parameter& parameter : parameters) {
      ++number;
      if (const auto* text = std::get_if<std::string>(&parameter)) {
        found->second->setString(number, *text);
      } else {
        found->second->setInt64(number, std::get<int64_t>(parameter));
      }
    }
    return *found->second;
  }

  void run_plain(const std::string& sql) {
    guard([&] {
      const std::unique_ptr<sql::Statement> statement(connection->createStatement());
      statement->execute(sql);
    });
  }
};

MysqlSession::MysqlSession(const MysqlDsn& dsn) : state_(std::make_unique<State>()) {
  state_->password = dsn.password;
  state_->guard([&] { state_->connection = connect(dsn); });
  // Strict: a text that a column cannot hold is refused, never cut short. Short waits for locks: we try
  // again.
  state_->run_plain(
      "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, "
      "innodb_lock_wait_timeout = 5, lock_wait_timeout = 5");
  if (dsn.tls == MysqlTls::kVerify || dsn.tls == MysqlTls::kSkipVerify) {
    const auto cipher = query("SHOW SESSION STATUS LIKE 'Ssl_cipher'", {});
    if (cipher.empty() || cipher[0].at(1).empty()) throw DbError("the connection is not encrypted");
  }
}

MysqlSession::~MysqlSession() {
  // May be another thread than any that has used it.
  driver_of_this_thread();
  try {
    state_.reset();
  } catch (const sql::SQLException&) {  // NOLINT(bugprone-empty-catch): it is gone either way
  }
}

std::vector<TextRow> MysqlSession::query(const std::string& sql, const Parameters& parameters) {
  return state_->guard([&] {
    const std::unique_ptr<sql::ResultSet> result(state_->bind(sql, parameters).executeQuery());
    const unsigned columns = result->getMetaData()->getColumnCount();
    std::vector<TextRow> rows;
    while (result->next()) {
      TextRow& row = rows.emplace_back();
      for (unsigned column = 1; column <= columns; ++column) {
        row.push_back(result->isNull(column) ? std::string() : result->getString(column).asStdString());
      }
    }
    return rows;
  });
}

uint64_t MysqlSession::execute(const std::string& sql, const Parameters& parameters) {
  return state_->guard(
      [&] { return static_cast<uint64_t>(std::max(0, state_->bind(sql, parameters).executeUpdate())); });
}

void MysqlSession::begin() {
  state_->run_plain("START TRANSACTION");
}

void MysqlSession::commit() {
  state_->run_plain("COMMIT");
}

}  // namespace obd::dedupdb
