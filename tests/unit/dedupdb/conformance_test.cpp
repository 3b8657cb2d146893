// What dedup_db.h promises of rows, tried on every implementation of it.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "common/error.h"
#include "tests/support/child_process.h"
#include "tests/unit/dedupdb/fixtures.h"

namespace obd::dedupdb::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kMediaType = "application/vnd.oci.image.manifest.v1+json";

class DedupDbConformance : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    database_ = GetParam().make();
    if (!database_) GTEST_SKIP() << kNoServer;
    db_ = database_->open();
    db_->create_tables({});
  }

  std::vector<std::string> repos(const Place& place, const Key& key) {
    std::vector<std::string> found;
    for (const LayerRecord& record : db_->find_layers(place, key, {})) found.push_back(record.repo);
    return found;
  }

  std::vector<Row> list(const RowFilter& filter = {}) {
    std::vector<Row> rows;
    db_->list(filter, [&](const Row& row) { rows.push_back(row); }, {});
    return rows;
  }

  /// As the reference convertor leaves them: the key is a bare digest.
  void insert_reference_rows(const Key& key) {
    const auto session = database_->raw();
    session->execute(
        "INSERT INTO overlaybd_layers (host, repo, chain_id, data_digest, data_size) VALUES (?, ?, ?, ?, 7)",
        {kPlace.host, kPlace.repo, key.digest.text(), digest_of(900).text()});
    session->execute(
        "INSERT INTO overlaybd_manifests (host, repo, src_digest, out_digest, data_size, mediatype) "
        "VALUES (?, ?, ?, ?, 8, ?)",
        {kPlace.host, kPlace.repo, key.digest.text(), digest_of(901).text(), kMediaType});
  }

  std::vector<TextRow> reference_rows() {
    const auto session = database_->raw();
    auto rows = session->query(
        "SELECT host, repo, chain_id, data_digest, data_size FROM overlaybd_layers "
        "WHERE chain_id NOT LIKE '%+%'",
        {});
    for (auto& row : session->query("SELECT host, repo, src_digest, out_digest, data_size, mediatype FROM "
                                    "overlaybd_manifests WHERE src_digest NOT LIKE '%+%'",
                                    {})) {
      rows.push_back(std::move(row));
    }
    return rows;
  }

  std::unique_ptr<TestDatabase> database_;
  std::unique_ptr<DedupDb> db_;
};

TEST_P(DedupDbConformance, MissIsAnAnswer) {
  EXPECT_THAT(db_->find_layers(kPlace, make_key(1), {}), IsEmpty());
  EXPECT_THAT(db_->find_manifests(kPlace, make_key(1), kMediaType, {}), IsEmpty());
  db_->remove_layer(kPlace, make_key(1), digest_of(1), {});
  db_->remove_manifest(kPlace, make_key(1), kMediaType, digest_of(1), {});
}

TEST_P(DedupDbConformance, FindsALayerInAllReposOfTheHostItsOwnFirst) {
  for (const char* repo : {"acme/app", "zebra", "aardvark"}) {
    db_->put_layer({kPlace.host, repo}, make_key(1), digest_of(1), 4096, {});
  }
  db_->put_layer({"other.example.com", "acme/app"}, make_key(1), digest_of(2), 1, {});
  db_->put_layer(kPlace, make_key(2), digest_of(3), 1, {});
  db_->put_layer(kPlace, make_key(1, "ffffffffffffffff"), digest_of(4), 1, {});
  EXPECT_THAT(repos(kPlace, make_key(1)), ElementsAre("acme/app", "aardvark", "zebra"));
  EXPECT_THAT(repos({kPlace.host, "zebra"}, make_key(1)), ElementsAre("zebra", "aardvark", "acme/app"));
  EXPECT_THAT(repos({kPlace.host, "new"}, make_key(1)), ElementsAre("aardvark", "acme/app", "zebra"));
  const LayerRecord record = db_->find_layers(kPlace, make_key(1), {}).front();
  EXPECT_EQ(record.digest, digest_of(1));
  EXPECT_EQ(record.size, 4096u);
}

TEST_P(DedupDbConformance, OwnRepoComesFirstAlsoWhereThereAreMoreThanALookupReturns) {
  for (size_t i = 0; i < DedupDb::kMaxRecords + 5; ++i) {
    db_->put_layer({kPlace.host, fmt::format("repo/{:04}", i)}, make_key(1), digest_of(i), i, {});
  }
  const Place last = {kPlace.host, fmt::format("repo/{:04}", DedupDb::kMaxRecords + 4)};
  const auto found = repos(last, make_key(1));
  EXPECT_THAT(found, SizeIs(DedupDb::kMaxRecords));
  EXPECT_EQ(found.front(), last.repo);
}

TEST_P(DedupDbConformance, PutReplacesWhatTheRowSays) {
  constexpr uint64_t kLarge = uint64_t{1} << 40;
  db_->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  db_->put_layer(kPlace, make_key(1), digest_of(2), kLarge, {});
  const auto found = db_->find_layers(kPlace, make_key(1), {});
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].digest, digest_of(2));
  EXPECT_EQ(found[0].size, kLarge);
}

TEST_P(DedupDbConformance, RemoveLeavesARowThatSaysAnotherDigest) {
  db_->put_layer(kPlace, make_key(1), digest_of(2), 1, {});
  db_->remove_layer(kPlace, make_key(1), digest_of(1), {});
  EXPECT_THAT(repos(kPlace, make_key(1)), SizeIs(1));
  db_->remove_layer(kPlace, make_key(1), digest_of(2), {});
  EXPECT_THAT(repos(kPlace, make_key(1)), IsEmpty());
}

TEST_P(DedupDbConformance, ManifestsAreKeptByMediaType) {
  const std::string docker = "application/vnd.docker.distribution.manifest.v2+json";
  db_->put_manifest(kPlace, make_key(1), {"ignored", digest_of(1), 10, kMediaType}, {});
  db_->put_manifest(kPlace, make_key(1), {"", digest_of(2), 20, docker}, {});
  db_->put_manifest(kPlace, make_key(1), {"", digest_of(3), 30, docker}, {});
  db_->put_manifest({kPlace.host, "aardvark"}, make_key(1), {"", digest_of(4), 40, docker}, {});
  const auto oci = db_->find_manifests(kPlace, make_key(1), kMediaType, {});
  ASSERT_THAT(oci, SizeIs(1));
  EXPECT_EQ(oci[0].repo, kPlace.repo);
  EXPECT_EQ(oci[0].digest, digest_of(1));
  EXPECT_EQ(oci[0].size, 10u);
  EXPECT_EQ(oci[0].media_type, kMediaType);
  const auto found = db_->find_manifests(kPlace, make_key(1), docker, {});
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[0].digest, digest_of(3));
  EXPECT_EQ(found[1].repo, "aardvark");
  db_->remove_manifest(kPlace, make_key(1), docker, digest_of(1), {});
  db_->remove_manifest(kPlace, make_key(1), kMediaType, digest_of(1), {});
  EXPECT_THAT(db_->find_manifests(kPlace, make_key(1), kMediaType, {}), IsEmpty());
  EXPECT_THAT(db_->find_manifests(kPlace, make_key(1), docker, {}), SizeIs(2));
}

TEST_P(DedupDbConformance, ReferenceRowsAreCountedAndOtherwiseLeftAlone) {
  insert_reference_rows(make_key(1));
  const auto before = reference_rows();
  ASSERT_THAT(before, SizeIs(2));
  EXPECT_THAT(repos(kPlace, make_key(1)), IsEmpty());
  EXPECT_THAT(db_->find_manifests(kPlace, make_key(1), kMediaType, {}), IsEmpty());
  db_->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  db_->put_manifest(kPlace, make_key(1), {"", digest_of(2), 2, kMediaType}, {});
  const Status status = db_->status({});
  EXPECT_EQ(status.layers.rows, 1u);
  EXPECT_EQ(status.layers.reference_rows, 1u);
  EXPECT_EQ(status.manifests.rows, 1u);
  EXPECT_EQ(status.manifests.reference_rows, 1u);
  EXPECT_THAT(list(), SizeIs(2));
  db_->remove_layer(kPlace, make_key(1), digest_of(900), {});
  const PruneTotals totals = db_->prune({}, {});
  EXPECT_EQ(totals.layers, 1u);
  EXPECT_EQ(totals.manifests, 1u);
  EXPECT_EQ(reference_rows(), before);
}

TEST_P(DedupDbConformance, MalformedRowsAreNotUsed) {
  const auto session = database_->raw();
  const std::string good = digest_of(1).text();
  int number = 0;
  for (const auto& [digest, size] :
       {std::pair{"latest", 5}, std::pair{"sha256:ABCD", 5}, std::pair{good.c_str(), -5}}) {
    session->execute(
        "INSERT INTO overlaybd_layers (host, repo, chain_id, data_digest, data_size) VALUES (?, ?, ?, ?, ?)",
        {kPlace.host, fmt::format("repo{}", ++number), make_key(1).text(), std::string(digest),
         int64_t{size}});
  }
  EXPECT_THAT(repos(kPlace, make_key(1)), IsEmpty());
  EXPECT_THAT(list(), SizeIs(3));
  EXPECT_EQ(db_->prune({}, {}).layers, 3u);
}

TEST_P(DedupDbConformance, OddTextsAreOnlyTexts) {
  const std::vector<std::string> odd = {"it's",
                                        "a\"b",
                                        "a`b",
                                        "a\\",
                                        "a\\'b",
                                        "%",
                                        "_",
                                        "?",
                                        "a?b",
                                        "'; DROP TABLE overlaybd_layers; --",
                                        "gr\u00fc\u00dfe",
                                        " a ",
                                        "a b"};
  for (size_t i = 0; i < odd.size(); ++i) {
    db_->put_layer({kPlace.host, odd[i]}, make_key(i), digest_of(i), i, {});
    db_->put_manifest({kPlace.host, odd[i]}, make_key(i), {"", digest_of(i), i, odd[i]}, {});
  }
  for (size_t i = 0; i < odd.size(); ++i) {
    EXPECT_THAT(repos(kPlace, make_key(i)), ElementsAre(odd[i]));
    EXPECT_THAT(list({.repo = odd[i]}), SizeIs(2)) << odd[i];
    const auto found = db_->find_manifests({kPlace.host, odd[i]}, make_key(i), odd[i], {});
    ASSERT_THAT(found, SizeIs(1)) << odd[i];
    EXPECT_EQ(found[0].media_type, odd[i]);
  }
  EXPECT_EQ(db_->prune({.repo = "%"}, {}).layers, 1u);
  EXPECT_EQ(db_->status({}).layers.rows, odd.size() - 1);
}

TEST_P(DedupDbConformance, TextsThatDoNotFitAreRefused) {
  const std::string longest(255, 'x');
  db_->put_layer({longest, longest}, make_key(1), digest_of(1), 1, {});
  EXPECT_THAT(repos({longest, longest}, make_key(1)), ElementsAre(longest));
  for (const std::string& bad : {longest + "x", std::string(), std::string("a\nb"), std::string("a\0b", 3)}) {
    EXPECT_THROW(db_->put_layer({bad, "repo"}, make_key(1), digest_of(1), 1, {}), DbError);
    EXPECT_THROW(db_->put_layer({"host", bad}, make_key(1), digest_of(1), 1, {}), DbError);
    EXPECT_THROW(db_->find_layers({"host", bad}, make_key(1), {}), DbError);
    EXPECT_THROW(db_->put_manifest(kPlace, make_key(1), {"", digest_of(1), 1, bad}, {}), DbError);
  }
}

TEST_P(DedupDbConformance, NamesThatDifferInCaseAreDifferentPlaces) {
  db_->put_layer({"Host", "Repo"}, make_key(1), digest_of(1), 1, {});
  EXPECT_THAT(repos({"host", "Repo"}, make_key(1)), IsEmpty());
  EXPECT_THAT(repos({"Host", "repo"}, make_key(1)), ElementsAre("Repo"));
  EXPECT_EQ(db_->prune({.repo = "repo"}, {}).layers, 0u);
  // Where a table cannot hold both, the later one is there under its own name.
  db_->put_layer({"Host", "repo"}, make_key(1), digest_of(2), 2, {});
  const LayerRecord first = db_->find_layers({"Host", "repo"}, make_key(1), {}).front();
  EXPECT_EQ(first.repo, "repo");
  EXPECT_EQ(first.digest, digest_of(2));
}

TEST_P(DedupDbConformance, AKeyOfAnotherFormIsOurBug) {
  for (const char* variant : {"", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdef+"}) {
    EXPECT_THROW(db_->find_layers(kPlace, make_key(1, variant), {}), std::logic_error);
  }
}

TEST_P(DedupDbConformance, ListAndPruneTakeHostAndRepo) {
  for (const char* host : {"a.example.com", "b.example.com"}) {
    for (const char* repo : {"one", "two"}) {
      db_->put_layer({host, repo}, make_key(1), digest_of(1), 1, {});
      db_->put_manifest({host, repo}, make_key(1), {"", digest_of(2), 2, kMediaType}, {});
    }
  }
  EXPECT_THAT(list(), SizeIs(8));
  EXPECT_THAT(list({.host = "a.example.com"}), SizeIs(4));
  EXPECT_THAT(list({.repo = "two"}), SizeIs(4));
  const auto rows = list({.host = "b.example.com", .repo = "two"});
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0].table, Table::kLayers);
  EXPECT_EQ(rows[0].key, make_key(1).text());
  EXPECT_EQ(rows[0].digest, digest_of(1).text());
  EXPECT_EQ(rows[1].table, Table::kManifests);
  EXPECT_EQ(rows[1].media_type, kMediaType);
  EXPECT_EQ(rows[1].size, 2);
  const Status status = db_->status({});
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.layers.hosts, 2u);
  EXPECT_EQ(status.layers.repos, 4u);
  const PruneTotals totals = db_->prune({.host = "a.example.com", .repo = "one"}, {});
  EXPECT_EQ(totals.layers, 1u);
  EXPECT_EQ(totals.manifests, 1u);
  EXPECT_EQ(db_->prune({.host = "b.example.com"}, {}).layers, 2u);
  EXPECT_THAT(list(), SizeIs(2));
}

TEST_P(DedupDbConformance, ManyRowsAreListedOnceAndPruned) {
  constexpr size_t kLayers = 2 * DedupDb::kPruneBatch + 1;
  constexpr size_t kManifests = DedupDb::kPruneBatch + 1;
  const auto session = database_->raw();
  session->begin();
  for (size_t i = 0; i < kLayers; ++i) {
    session->execute(
        "INSERT INTO overlaybd_layers (host, repo, chain_id, data_digest, data_size) VALUES (?, ?, ?, ?, 1)",
        {fmt::format("host{}", i % 3), fmt::format("repo{}", i % 7), make_key(i).text(),
         digest_of(i).text()});
  }
  // Told apart by the last column of the key alone.
  for (size_t i = 0; i < kManifests; ++i) {
    session->execute(
        "INSERT INTO overlaybd_manifests (host, repo, src_digest, out_digest, data_size, mediatype) "
        "VALUES (?, ?, ?, ?, 1, ?)",
        {kPlace.host, kPlace.repo, make_key(1).text(), digest_of(i).text(), fmt::format("type{}", i)});
  }
  session->commit();
  const std::vector<Row> rows = list();
  std::set<std::string> digests;
  for (const Row& row : rows) digests.insert(row.media_type + row.key + row.digest);
  EXPECT_THAT(rows, SizeIs(kLayers + kManifests));
  EXPECT_THAT(digests, SizeIs(rows.size()));
  const PruneTotals totals = db_->prune({}, {});
  EXPECT_EQ(totals.layers, kLayers);
  EXPECT_EQ(totals.manifests, kManifests);
  EXPECT_THAT(list(), IsEmpty());
}

TEST_P(DedupDbConformance, TablesAreMadeOnceAndKept) {
  db_->put_layer(kPlace, make_key(1), digest_of(1), 1, {});
  db_->create_tables({});
  database_->open()->create_tables({});
  EXPECT_THAT(repos(kPlace, make_key(1)), SizeIs(1));
}

TEST_P(DedupDbConformance, TablesOfAnotherFormAreRefused) {
  const auto session = database_->raw();
  session->execute("DROP TABLE overlaybd_manifests", {});
  EXPECT_FALSE(db_->status({}).manifests.present);
  EXPECT_FALSE(db_->status({}).ok());
  session->execute(
      "CREATE TABLE overlaybd_manifests (host varchar(255) NOT NULL, repo varchar(255) NOT NULL, src_digest "
      "varchar(64) NOT NULL, out_digest varchar(255), data_size bigint, mediatype varchar(255))",
      {});
  const TableStatus status = db_->status({}).manifests;
  EXPECT_TRUE(status.present);
  EXPECT_THAT(status.problem, HasSubstr("src_digest"));
  try {
    db_->create_tables({});
    FAIL() << "the table was accepted";
  } catch (const DbError& error) {
    EXPECT_THAT(error.what(), HasSubstr("overlaybd_manifests cannot be used"));
  }
}

TEST_P(DedupDbConformance, StopEndsEverything) {
  std::stop_source source;
  source.request_stop();
  const std::stop_token stop = source.get_token();
  EXPECT_THROW(db_->find_layers(kPlace, make_key(1), stop), Cancelled);
  EXPECT_THROW(db_->put_layer(kPlace, make_key(1), digest_of(1), 1, stop), Cancelled);
  EXPECT_THROW(db_->prune({}, stop), Cancelled);
  EXPECT_THROW(db_->acquire("x", true, stop), Cancelled);
}

TEST_P(DedupDbConformance, ThreadsMayReplaceTheSameRow) {
  // More of them than there are connections.
  constexpr size_t kThreads = DedupDb::kMaxConnections + 4;
  {
    std::vector<std::jthread> threads;
    for (size_t number = 0; number < kThreads; ++number) {
      threads.emplace_back([this, number] {
        for (int i = 0; i < 5; ++i) {
          db_->put_layer(kPlace, make_key(1), digest_of(number), number, {});
          db_->put_layer(kPlace, make_key(100 + number), digest_of(number), number, {});
          db_->remove_layer(kPlace, make_key(1), digest_of(number + 1), {});
          for (const auto& found : db_->find_layers(kPlace, make_key(1), {})) {
            EXPECT_EQ(found.digest, digest_of(found.size)) << "half of one row and half of another";
          }
        }
      });
    }
  }
  EXPECT_EQ(db_->status({}).layers.rows - repos(kPlace, make_key(1)).size(), kThreads);
}

TEST_P(DedupDbConformance, ProcessesMayReplaceTheSameRow) {
  const Options options = database_->options();
  std::vector<std::unique_ptr<obd::test::ChildProcess>> workers;
  for (const char* size : {"1", "2", "3"}) {
    workers.push_back(std::make_unique<obd::test::ChildProcess>(
        std::vector<std::string>{OBD_DEDUPDB_WORKER, options.type, options.location, "put", "40", size}));
  }
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->read_line(), "done");
    EXPECT_EQ(worker->wait(), 0);
  }
  const auto found = db_->find_layers(kPlace, make_key(1), {});
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].digest, digest_of(found[0].size));
}

INSTANTIATE_TEST_SUITE_P(Sqlite, DedupDbConformance,
                         testing::Values(Implementation{"Sqlite", make_sqlite_database}),
                         testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Mysql, DedupDbConformance,
                         testing::Values(Implementation{"Mysql", make_mysql_database}),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace obd::dedupdb::test
