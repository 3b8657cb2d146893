#pragma once

#include <memory>
#include <string>

#include "dedupdb/mysql_dsn.h"
#include "dedupdb/mysql_leases.h"
#include "dedupdb/session.h"

namespace obd::dedupdb {

/// A database of a MySQL or MariaDB server, shared with other converters and with the reference convertor.
class MysqlBackend : public Backend {
 public:
  MysqlBackend(MysqlDsn dsn, const RetryPolicy& policy);

  std::string name() const override { return "mysql:" + dsn_.place(); }
  std::unique_ptr<Session> connect() override;
  std::unique_ptr<Session> connect_existing() override { return connect(); }
  void create_tables(Session& session) override;
  TableShape shape(Session& session, const std::string& table) override;
  std::unique_ptr<Lease> acquire(const std::string& name, bool wait, std::stop_token stop) override;
  std::string on_conflict(const std::vector<std::string>& key,
                          const std::vector<std::string>& columns) const override;
  std::string behind(const std::vector<std::string>& key) const override;
  Parameters behind_parameters(const std::vector<std::string>& position) const override;

 private:
  const MysqlDsn dsn_;
  MysqlLeases leases_;
};

}  // namespace obd::dedupdb
