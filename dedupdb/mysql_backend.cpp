#include "dedupdb/mysql_backend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "dedupdb/mysql_session.h"
#include "dedupdb/schema.h"

namespace obd::dedupdb {

MysqlBackend::MysqlBackend(MysqlDsn dsn, const RetryPolicy& policy)
    : dsn_(std::move(dsn)), leases_(dsn_.database, policy, [this] { return connect(); }) {}

std::unique_ptr<Session> MysqlBackend::connect() {
  return std::make_unique<MysqlSession>(dsn_);
}

void MysqlBackend::create_tables(Session& session) {
  for (const std::string& statement : mysql_create_statements()) session.execute(statement, {});
}

TableShape MysqlBackend::shape(Session& session, const std::string& table) {
  TableShape shape;
  for (const TextRow& row :
       session.query("SELECT column_name, LOWER(column_type) FROM information_schema.columns "
                     "WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
                     {table})) {
    shape.columns.push_back({row[0], row[1]});
  }
  for (const TextRow& row :
       session.query("SELECT column_name FROM information_schema.statistics WHERE table_schema = DATABASE() "
                     "AND table_name = ? AND index_name = 'PRIMARY' ORDER BY seq_in_index",
                     {table})) {
    shape.primary_key.push_back(row[0]);
  }
  return shape;
}

std::unique_ptr<Lease> MysqlBackend::acquire(const std::string& name, bool wait, std::stop_token stop) {
  return leases_.acquire(name, wait, stop);
}

// The key too: two names that the table's collation takes for equal share a row, which says whose it is now.
std::string MysqlBackend::on_conflict(const std::vector<std::string>&,
                                      const std::vector<std::string>& columns) const {
  std::vector<std::string> updates;
  for (const std::string& column : columns) updates.push_back(fmt::format("{0} = VALUES({0})", column));
  return fmt::format("ON DUPLICATE KEY UPDATE {}", fmt::join(updates, ", "));
}

// Written out, since the server uses an index for this form and not for (a, b) > (?, ?).
std::string MysqlBackend::behind(const std::vector<std::string>& key) const {
  std::vector<std::string> alternatives;
  std::string equal;
  for (const std::string& column : key) {
    alternatives.push_back(fmt::format("({}{} > ?)", equal, column));
    equal += column + " = ? AND ";
  }
  return fmt::format("{}", fmt::join(alternatives, " OR "));
}

Parameters MysqlBackend::behind_parameters(const std::vector<std::string>& position) const {
  Parameters parameters;
  for (size_t length = 1; length <= position.size(); ++length) {
    parameters.insert(parameters.end(), position.begin(), position.begin() + static_cast<ptrdiff_t>(length));
  }
  return parameters;
}

std::unique_ptr<Backend> make_mysql_backend(const Options& options) {
  return std::make_unique<MysqlBackend>(parse_mysql_dsn(options.location), options.retry);
}

}  // namespace obd::dedupdb
