// What dedup_db.h promises of leases, tried on every implementation of it.

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "common/error.h"
#include "tests/support/child_process.h"
#include "tests/unit/dedupdb/fixtures.h"

namespace obd::dedupdb::test {
namespace {

using obd::test::ChildProcess;

class LeaseConformance : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    database_ = GetParam().make();
    if (!database_) GTEST_SKIP() << kNoServer;
    db_ = database_->open();
    db_->create_tables({});
  }

  std::unique_ptr<Lease> try_acquire(const std::string& name) { return db_->acquire(name, false, {}); }

  std::unique_ptr<TestDatabase> database_;
  std::unique_ptr<DedupDb> db_;
};

TEST_P(LeaseConformance, OneHolderAtATime) {
  auto lease = try_acquire("a");
  ASSERT_TRUE(lease);
  EXPECT_TRUE(lease->held());
  EXPECT_FALSE(try_acquire("a")) << "the same object gave it twice";
  EXPECT_FALSE(database_->open()->acquire("a", false, {})) << "another connection got it";
  std::jthread([this] { EXPECT_FALSE(try_acquire("a")) << "another thread got it"; });
  EXPECT_TRUE(lease->held());
  lease.reset();
  EXPECT_TRUE(database_->open()->acquire("a", false, {}));
  EXPECT_TRUE(try_acquire("a"));
}

TEST_P(LeaseConformance, NamesAreIndependentAndMayBeAnyText) {
  const std::string long_name(1000, 'n');
  std::vector<std::unique_ptr<Lease>> leases;
  for (const std::string& name : {std::string("a"), std::string("A"), std::string(), std::string("it's"),
                                  std::string("\0", 1), long_name, long_name + "x"}) {
    leases.push_back(try_acquire(name));
    ASSERT_TRUE(leases.back()) << name;
  }
  leases.erase(leases.begin());
  for (const auto& lease : leases) EXPECT_TRUE(lease->held());
  EXPECT_TRUE(try_acquire("a"));
  EXPECT_FALSE(try_acquire("A"));
}

TEST_P(LeaseConformance, WaitsForItsTurn) {
  std::atomic<int> inside = 0;
  std::atomic<int> turns = 0;
  {
    std::vector<std::jthread> threads;
    for (int number = 0; number < 4; ++number) {
      threads.emplace_back([&, own = number % 2 == 0 ? nullptr : database_->open()] {
        DedupDb& db = own ? *own : *db_;
        const auto lease = db.acquire("turn", true, {});
        EXPECT_EQ(++inside, 1) << "two at a time";
        EXPECT_TRUE(lease->held());
        ++turns;
        --inside;
      });
    }
  }
  EXPECT_EQ(turns, 4);
}

TEST_P(LeaseConformance, StopEndsTheWait) {
  const auto lease = try_acquire("a");
  std::stop_source source;
  std::jthread waiter([&] { EXPECT_THROW(db_->acquire("a", true, source.get_token()), Cancelled); });
  source.request_stop();
}

TEST_P(LeaseConformance, AKilledHolderHasItNoLonger) {
  const Options options = database_->options();
  ChildProcess holder({OBD_DEDUPDB_WORKER, options.type, options.location, "lease", "a"});
  ASSERT_EQ(holder.read_line(), "held");
  EXPECT_FALSE(try_acquire("a"));
  holder.kill();
  EXPECT_TRUE(db_->acquire("a", true, {}));
}

TEST_P(LeaseConformance, AnotherProcessWaitsAndThenHasIt) {
  const Options options = database_->options();
  auto lease = try_acquire("a");
  ChildProcess other({OBD_DEDUPDB_WORKER, options.type, options.location, "lease", "a"});
  lease.reset();
  ASSERT_EQ(other.read_line(), "held");
  EXPECT_FALSE(try_acquire("a"));
  other.close_input();
  EXPECT_EQ(other.wait(), 0);
  EXPECT_TRUE(try_acquire("a"));
}

INSTANTIATE_TEST_SUITE_P(Sqlite, LeaseConformance,
                         testing::Values(Implementation{"Sqlite", make_sqlite_database}),
                         testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Mysql, LeaseConformance,
                         testing::Values(Implementation{"Mysql", make_mysql_database}),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace obd::dedupdb::test
