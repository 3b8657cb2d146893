#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "dedupdb/dedup_db.h"
#include "dedupdb/session.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/temporary_directory.h"

namespace obd::dedupdb::test {

using obd::test::TemporaryDirectory;

inline const Place kPlace = {.host = "registry.example.com", .repo = "acme/app"};

inline Digest digest_of(uint64_t number) {
  return Digest::of("digest " + std::to_string(number));
}

inline Key make_key(uint64_t number, const std::string& variant = "0123456789abcdef") {
  return {.digest = Digest::of("source " + std::to_string(number)), .variant = variant};
}

/// An empty database, and ways around the interface.
class TestDatabase {
 public:
  virtual ~TestDatabase() = default;
  virtual Options options() const = 0;
  /// A connection without any retries or rules; for MySQL the tables must be made first.
  virtual std::unique_ptr<Session> raw() const = 0;
  std::unique_ptr<DedupDb> open() const { return open_dedup_db(options()); }
};

struct Implementation {
  std::string name;
  std::function<std::unique_ptr<TestDatabase>()> make;  // null: cannot run here
};

/// Else the names of the tests would hold addresses.
inline void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.name;
}

std::unique_ptr<TestDatabase> make_sqlite_database();
/// A new database of shared_server(); null if MariaDB is not installed.
std::unique_ptr<TestDatabase> make_mysql_database();

/// The one server of this run of the tests, started when it is first wanted; null if it is not installed.
obd::test::MariaDbServer* shared_server();

/// Retries that take no time to speak of.
inline constexpr RetryPolicy kQuickRetries = {
    .tries = 3, .first_delay = std::chrono::milliseconds(5), .max_delay = std::chrono::milliseconds(20)};

/// What a test says where there is no server.
inline constexpr const char* kNoServer = "no MariaDB server: apt-get install mariadb-server";

}  // namespace obd::dedupdb::test
