// What is particular to SQLite.

#include <gmock/gmock.h>

#include <filesystem>
#include <thread>

#include "common/error.h"
#include "dedupdb/sqlite_session.h"
#include "tests/unit/dedupdb/fixtures.h"

namespace obd::dedupdb::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class SqliteDedupDb : public testing::Test {
 protected:
  std::string path() const { return (directory_.path() / "obd.db").string(); }
  std::unique_ptr<DedupDb> open() const {
    return open_dedup_db({.location = path(), .retry = kQuickRetries});
  }

  std::string failure() const {
    try {
      open()->find_layers(kPlace, make_key(1), {});
    } catch (const DbError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kDatabase);
      EXPECT_THAT(error.what(), HasSubstr(path()));
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return {};
  }

  TemporaryDirectory directory_;
};

TEST_F(SqliteDedupDb, IsMadeOnFirstUse) {
  const auto db = open();
  EXPECT_FALSE(fs::exists(path()));
  EXPECT_THAT(db->find_layers(kPlace, make_key(1), {}), IsEmpty());
  EXPECT_TRUE(fs::exists(path()));
  SqliteSession session(path(), false);
  EXPECT_EQ(session.pragma("user_version"), 1);
  EXPECT_EQ(session.query("PRAGMA journal_mode", {})[0][0], "wal");
}

TEST_F(SqliteDedupDb, LookingAtItDoesNotMakeIt) {
  EXPECT_FALSE(open()->status({}).ok());
  EXPECT_FALSE(open()->status({}).layers.present);
  EXPECT_THROW(open()->list({}, [](const Row&) {}, {}), DbError);
  EXPECT_THROW(open()->prune({}, {}), DbError);
  EXPECT_FALSE(fs::exists(path()));
}

TEST_F(SqliteDedupDb, AnEmptyFileBecomesOne) {
  obd::test::write_file(path(), "");
  EXPECT_FALSE(open()->status({}).layers.present);
  open()->create_tables({});
  EXPECT_TRUE(open()->status({}).ok());
}

TEST_F(SqliteDedupDb, ManyMayMakeItAtOnce) {
  std::vector<std::jthread> threads;
  for (uint64_t number = 0; number < 8; ++number) {
    threads.emplace_back([this, number] {
      open_dedup_db({.location = path()})->put_layer(kPlace, make_key(number), digest_of(number), 1, {});
    });
  }
  threads.clear();
  EXPECT_EQ(open()->status({}).layers.rows, 8u);
}

TEST_F(SqliteDedupDb, ForeignFilesAreRefusedAndLeftAlone) {
  const std::string text(5000, 'x');
  obd::test::write_file(path(), text);
  EXPECT_THAT(failure(), HasSubstr("not an SQLite database"));
  EXPECT_EQ(obd::test::read_file(path()), text);
  fs::remove(path());
  SqliteSession(path(), true).run_script("CREATE TABLE accounts (name)");
  EXPECT_THAT(failure(), HasSubstr("another program"));
  SqliteSession(path(), false).run_script("PRAGMA application_id = 1");
  EXPECT_THAT(failure(), HasSubstr("another program"));
  EXPECT_THROW(open()->status({}), DbError);
}

TEST_F(SqliteDedupDb, ANewerSchemaIsRefused) {
  open()->create_tables({});
  SqliteSession(path(), false).run_script("PRAGMA user_version = 2");
  EXPECT_THAT(failure(), HasSubstr("newer program"));
}

TEST_F(SqliteDedupDb, ADamagedFileIsAnError) {
  open()->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  SqliteSession(path(), false).query("PRAGMA wal_checkpoint(TRUNCATE)", {});
  std::string content = obd::test::read_file(path());
  std::fill(content.begin() + 4096, content.end(), '\x5a');
  obd::test::write_file(path(), content);
  EXPECT_THAT(failure(), HasSubstr("remove the file"));
}

TEST_F(SqliteDedupDb, PathsThatCannotBeAreNamed) {
  EXPECT_THROW(open_dedup_db({.location = directory_.path().string()})->create_tables({}), DbError);
  const auto db = open_dedup_db({.location = (directory_.path() / "no" / "obd.db").string()});
  try {
    db->find_layers(kPlace, make_key(1), {});
    FAIL();
  } catch (const DbError& error) {
    EXPECT_THAT(error.what(), HasSubstr("there is no directory"));
  }
}

TEST_F(SqliteDedupDb, WaitsForAWriterAndThenGivesUp) {
  open()->create_tables({});
  SqliteSession writer(path(), false);
  writer.begin();
  const auto db = open_dedup_db({.location = path(), .retry = {.tries = 1}});
  try {
    db->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
    FAIL() << "two writers at a time";
  } catch (const DbError& error) {
    EXPECT_THAT(error.what(), HasSubstr("locked"));
  }
  EXPECT_THAT(db->find_layers(kPlace, make_key(1), {}), IsEmpty()) << "readers need not wait";
  std::jthread putting([&] { db->put_layer(kPlace, make_key(1), digest_of(1), 1, {}); });
  writer.commit();
  putting.join();
  EXPECT_THAT(db->find_layers(kPlace, make_key(1), {}), SizeIs(1));
}

TEST_F(SqliteDedupDb, ALeaseIsLostWithItsFile) {
  const auto db = open();
  const auto lease = db->acquire("a", false, {});
  ASSERT_TRUE(lease);
  fs::remove(path() + "-leases");
  EXPECT_FALSE(lease->held());
  EXPECT_TRUE(db->acquire("a", false, {}));
}

TEST_F(SqliteDedupDb, LeasesAreTheSameByWayOfASymlink) {
  open()->create_tables({});
  const fs::path other = directory_.path() / "link.db";
  fs::create_symlink(path(), other);
  const auto db = open();
  const auto linked = open_dedup_db({.location = other.string()});
  const auto lease = db->acquire("a", false, {});
  EXPECT_FALSE(linked->acquire("a", false, {}));
}

}  // namespace
}  // namespace obd::dedupdb::test
