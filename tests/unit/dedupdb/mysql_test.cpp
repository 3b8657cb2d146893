// What is particular to MySQL: the server, the connections to it, and what is said of them.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <thread>

#include "common/error.h"
#include "dedupdb/mysql_session.h"
#include "dedupdb/waiting.h"
#include "tests/unit/dedupdb/fixtures.h"

namespace obd::dedupdb::test {
namespace {

using obd::test::MariaDbServer;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class MysqlDedupDb : public testing::Test {
 protected:
  void SetUp() override {
    database_ = make_mysql_database();
    if (!database_) GTEST_SKIP() << kNoServer;
    location_ = database_->options().location;
    db_ = open(location_);
    db_->create_tables({});
  }

  static std::unique_ptr<DedupDb> open(const std::string& location,
                                       const RetryPolicy& retry = kQuickRetries) {
    return open_dedup_db({.type = "mysql", .location = location, .retry = retry});
  }

  /// The message of the error that a lookup ends with; empty if there is none.
  static std::string failure(DedupDb& db) {
    try {
      db.find_layers(kPlace, make_key(1), {});
    } catch (const DbError& error) {
      EXPECT_THAT(error.what(), Not(HasSubstr(MariaDbServer::kPassword)));
      EXPECT_THAT(error.what(), HasSubstr(db.name()));
      return error.what();
    }
    return {};
  }

  std::string with_host(const std::string& host) const {
    std::string location = location_;
    const std::string numeric = "tcp(127.0.0.1:";
    return location.replace(location.rfind(numeric), numeric.size(), "tcp(" + host + ":");
  }

  /// Ends all connections but its own.
  void kill_connections() const {
    const auto root = database_->raw();
    for (const TextRow& row :
         root->query("SELECT id FROM information_schema.processlist WHERE user = ? AND id <> CONNECTION_ID()",
                     {std::string(MariaDbServer::kUser)})) {
      root->execute("KILL CONNECTION " + row[0], {});
    }
  }

  std::unique_ptr<TestDatabase> database_;
  std::string location_;
  std::unique_ptr<DedupDb> db_;
};

TEST_F(MysqlDedupDb, ErrorsSayWhatToDoAndKeepThePassword) {
  const std::string password = MariaDbServer::kPassword;
  std::string wrong = location_;
  wrong.replace(wrong.find(password), password.size(), "other@secret");
  EXPECT_THAT(failure(*open(wrong)), AllOf(HasSubstr("check user, password"), Not(HasSubstr("secret"))));
  EXPECT_THAT(failure(*open(location_ + "x")), HasSubstr("CREATE DATABASE"));
  database_->raw()->execute("DROP TABLE overlaybd_layers", {});
  EXPECT_THAT(failure(*db_), HasSubstr("obdctl db init"));
}

TEST_F(MysqlDedupDb, AServerThatIsNotThereIsAnErrorAfterTheTries) {
  EXPECT_THAT(failure(*open("u:secret@tcp(127.0.0.1:1)/farm")),
              AllOf(HasSubstr("tried 3 times"), Not(HasSubstr("secret"))));
  EXPECT_THAT(failure(*open("u:secret@unix(/nowhere/socket)/farm")), HasSubstr("tried 3 times"));
}

TEST_F(MysqlDedupDb, AnOutageIsWaitedOutOrAnError) {
  MariaDbServer& server = *shared_server();
  db_->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  const auto lease = db_->acquire("a", false, {});
  ASSERT_TRUE(lease);
  server.stop();
  EXPECT_THAT(failure(*db_), HasSubstr("tried 3 times"));
  EXPECT_THROW(db_->acquire("b", true, {}), DbError);
  EXPECT_FALSE(lease->held());
  const auto patient =
      open(location_, {.tries = 1000, .first_delay = milliseconds(20), .max_delay = milliseconds(40)});
  std::jthread putting([&] { patient->put_layer(kPlace, make_key(2), digest_of(2), 2, {}); });
  server.start();
  putting.join();
  EXPECT_THAT(db_->find_layers(kPlace, make_key(1), {}), SizeIs(1)) << "the old connections were used again";
  EXPECT_THAT(db_->find_layers(kPlace, make_key(2), {}), SizeIs(1));
  EXPECT_TRUE(db_->acquire("a", false, {}));
}

TEST_F(MysqlDedupDb, LostConnectionsOfThePoolAreReplaced) {
  // Fills the pool with more connections than there are tries.
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([this] {
        for (int n = 0; n < 10; ++n) db_->find_layers(kPlace, make_key(1), {});
      });
    }
  }
  kill_connections();
  EXPECT_EQ(failure(*db_), "");
}

TEST_F(MysqlDedupDb, NoMoreConnectionsThanStated) {
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < 2 * DedupDb::kMaxConnections; ++i) {
      threads.emplace_back([this] { db_->find_layers(kPlace, make_key(1), {}); });
    }
  }
  const auto count = database_->raw()->query(
      "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND user = ?",
      {std::string(MariaDbServer::kUser)});
  EXPECT_LE(std::stoul(count[0][0]), DedupDb::kMaxConnections);
}

TEST_F(MysqlDedupDb, DeadlocksAreTriedAgain) {
  const auto root = database_->raw();
  root->execute("CREATE TABLE countdown (n int NOT NULL) ENGINE=Aria TRANSACTIONAL=0", {});
  root->execute("INSERT INTO countdown VALUES (2)", {});
  // An error as a deadlock's, twice; a table without transactions remembers how often.
  root->execute(
      "CREATE TRIGGER deadlock BEFORE INSERT ON overlaybd_layers FOR EACH ROW BEGIN "
      "IF (SELECT n FROM countdown) > 0 THEN UPDATE countdown SET n = n - 1; "
      "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF; END",
      {});
  db_->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  EXPECT_THAT(db_->find_layers(kPlace, make_key(1), {}), SizeIs(1));
  root->execute("UPDATE countdown SET n = 3", {});
  EXPECT_THROW(db_->put_layer(kPlace, make_key(2), digest_of(1), 1, {}), DbError);
}

TEST_F(MysqlDedupDb, ALostConnectionLosesItsLeases) {
  auto lease = db_->acquire("a", false, {});
  auto other = db_->acquire("b", false, {});
  ASSERT_TRUE(lease && other);
  kill_connections();
  EXPECT_FALSE(lease->held());
  EXPECT_FALSE(other->held());
  auto again = db_->acquire("a", true, {});
  ASSERT_TRUE(again);
  lease.reset();
  EXPECT_TRUE(again->held()) << "the end of a lost lease released its successor";
  EXPECT_FALSE(open(location_)->acquire("a", false, {}));
}

TEST_F(MysqlDedupDb, LeasesOutliveTheServersPatience) {
  const auto root = database_->raw();
  root->execute("SET GLOBAL wait_timeout = 1", {});
  const auto db = open(location_);
  const auto lease = db->acquire("a", false, {});
  ASSERT_TRUE(lease);
  std::this_thread::sleep_for(milliseconds(1600));
  EXPECT_FALSE(open(location_)->acquire("a", false, {})) << "the server has closed the silent connection";
  EXPECT_TRUE(lease->held());
  root->execute("SET GLOBAL wait_timeout = DEFAULT", {});
}

TEST_F(MysqlDedupDb, LeasesOfDifferentDatabasesAreDifferent) {
  const auto other_database = make_mysql_database();
  const auto other = other_database->open();
  const auto lease = db_->acquire("a", false, {});
  EXPECT_TRUE(other->acquire("a", false, {}));
}

TEST_F(MysqlDedupDb, LateRowsOfOtherThreadsDoNotHideBehindASnapshot) {
  EXPECT_THAT(db_->find_layers(kPlace, make_key(1), {}), IsEmpty());
  open(location_)->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  EXPECT_THAT(db_->find_layers(kPlace, make_key(1), {}), SizeIs(1));
}

TEST_F(MysqlDedupDb, TextsThatTheTableCannotHoldAreRefusedNotCut) {
  database_->raw()->execute("ALTER TABLE overlaybd_layers MODIFY repo varchar(5) NOT NULL", {});
  EXPECT_THROW(db_->put_layer(kPlace, make_key(1), digest_of(1), 1, {}), DbError);
  EXPECT_THAT(db_->status({}).layers.problem, HasSubstr("varchar(5)"));
}

/// Whether the connection that a DSN makes is encrypted.
bool is_encrypted(const std::string& dsn) {
  MysqlSession session(parse_mysql_dsn(dsn));
  return !session.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'", {}).at(0).at(1).empty();
}

TEST_F(MysqlDedupDb, TlsIsWhatTheParameterSays) {
  EXPECT_FALSE(is_encrypted(location_));
  EXPECT_FALSE(is_encrypted(location_ + "?tls=false"));
  EXPECT_TRUE(is_encrypted(location_ + "?tls=preferred"));
  EXPECT_TRUE(is_encrypted(location_ + "?tls=skip-verify"));
  EXPECT_THROW(is_encrypted(location_ + "?tls=true"), DbError) << "nobody vouches for the certificate";
  EXPECT_THAT(failure(*open(location_ + "?tls=true")), HasSubstr("trusts"));
  ::setenv("SSL_CERT_FILE", shared_server()->certificate().c_str(), 1);
  EXPECT_TRUE(is_encrypted(with_host("localhost") + "?tls=true"));
  EXPECT_THROW(is_encrypted(location_ + "?tls=true"), DbError) << "the certificate is another host's";
  ::unsetenv("SSL_CERT_FILE");
}

TEST_F(MysqlDedupDb, WithoutTlsOnTheServerOnlyPreferredGoesOn) {
  MariaDbServer& server = *shared_server();
  server.stop();
  server.start(MariaDbServer::Tls::kOff);
  EXPECT_FALSE(is_encrypted(location_ + "?tls=preferred"));
  EXPECT_THROW(is_encrypted(location_ + "?tls=skip-verify"), DbError);
  EXPECT_THROW(is_encrypted(location_ + "?tls=true"), DbError);
  server.stop();
  server.start();
}

}  // namespace
}  // namespace obd::dedupdb::test
