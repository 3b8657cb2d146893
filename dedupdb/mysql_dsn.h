#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace obd::dedupdb {

/// How far the connection to a server is protected.
enum class MysqlTls {
  kOff,         // tls=false, or absent
  kPreferred,   // encrypted if the server can; nothing verified
  kSkipVerify,  // encrypted, nothing verified
  kVerify,      // tls=true: the certificate must fit the host and come from a CA that this system trusts
};

/// Where a MySQL or MariaDB database is, in the form of the reference convertor's Go driver:
/// [user[:password]@][tcp[(host[:port])]|unix[(path)]]/database[?parameter=value&…]
struct MysqlDsn {
  std::string user;
  std::string password;
  std::string host;    // without brackets; empty for a socket
  uint16_t port = 0;   // 0 for a socket
  std::string socket;  // path; empty for TCP
  std::string database;
  MysqlTls tls = MysqlTls::kOff;
  /// Zero: no limit. The connector knows whole seconds: rounded up.
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds read_timeout{30'000};
  std::chrono::milliseconds write_timeout{30'000};

  /// "tcp(host:3306)/database": without user and password.
  std::string place() const;
};

/// Throws UsageError that says what is wrong; of the text it repeats only what cannot be part of a password.
MysqlDsn parse_mysql_dsn(std::string_view text);

/// Whether a text that should be a file's path is meant as a DSN: it names a protocol and its address.
bool looks_like_mysql_dsn(std::string_view text);

/// "1m30s", "500ms", "1.5h", "0": durations as Go writes them. Throws UsageError naming `parameter`.
std::chrono::milliseconds parse_go_duration(std::string_view parameter, std::string_view text);

}  // namespace obd::dedupdb
