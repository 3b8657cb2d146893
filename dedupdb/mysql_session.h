#pragma once

#include <memory>
#include <string>

#include "dedupdb/mysql_dsn.h"
#include "dedupdb/session.h"

namespace obd::dedupdb {

/// One connection to a MySQL or MariaDB server.
class MysqlSession : public Session {
 public:
  /// Connects; as long as the DSN's timeouts allow.
  explicit MysqlSession(const MysqlDsn& dsn);
  ~MysqlSession() override;

  std::vector<TextRow> query(const std::string& sql, const Parameters& parameters) override;
  uint64_t execute(const std::string& sql, const Parameters& parameters) override;
  void begin() override;
  void commit() override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What goes into a message of ours of what the connector or the server said: nothing at all if the password
/// occurs in it.
std::string without_secret(const std::string& text, const std::string& secret);

}  // namespace obd::dedupdb
