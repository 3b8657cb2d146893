#include "tests/unit/dedupdb/fixtures.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>

#include "dedupdb/mysql_dsn.h"
#include "dedupdb/mysql_session.h"
#include "dedupdb/sqlite_session.h"

namespace obd::dedupdb::test {
namespace {

using obd::test::MariaDbServer;

class SqliteDatabase final : public TestDatabase {
 public:
  Options options() const override { return {.type = "sqlite", .location = path(), .retry = {}}; }
  std::unique_ptr<Session> raw() const override { return std::make_unique<SqliteSession>(path(), false); }

 private:
  std::string path() const { return (directory_.path() / "obd.db").string(); }

  TemporaryDirectory directory_;
};

class MysqlDatabase final : public TestDatabase {
 public:
  explicit MysqlDatabase(MariaDbServer& server) : server_(server) {
    static std::atomic<int> made = 0;
    name_ = fmt::format("obd_test_{}", ++made);
    MysqlSession(parse_mysql_dsn(server.root_dsn("mysql"))).execute("CREATE DATABASE " + name_, {});
  }
  Options options() const override { return {.type = "mysql", .location = server_.dsn(name_), .retry = {}}; }
  std::unique_ptr<Session> raw() const override {
    return std::make_unique<MysqlSession>(parse_mysql_dsn(server_.root_dsn(name_)));
  }

 private:
  MariaDbServer& server_;
  std::string name_;
};

/// Ends the server with the tests.
class ServerEnvironment final : public testing::Environment {
 public:
  MariaDbServer* server() {
    if (!server_ && MariaDbServer::is_installed()) server_ = std::make_unique<MariaDbServer>();
    return server_.get();
  }
  void TearDown() override { server_.reset(); }

 private:
  std::unique_ptr<MariaDbServer> server_;
};

// Belongs to gtest.
auto* const server_environment =
    static_cast<ServerEnvironment*>(testing::AddGlobalTestEnvironment(new ServerEnvironment));

}  // namespace

MariaDbServer* shared_server() {
  return server_environment->server();
}

std::unique_ptr<TestDatabase> make_sqlite_database() {
  return std::make_unique<SqliteDatabase>();
}

std::unique_ptr<TestDatabase> make_mysql_database() {
  MariaDbServer* server = shared_server();
  return server != nullptr ? std::make_unique<MysqlDatabase>(*server) : nullptr;
}

}  // namespace obd::dedupdb::test
