#include "dedupdb/mysql_dsn.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "common/error.h"
#include "common/percent.h"

namespace obd::dedupdb {
namespace {

constexpr uint16_t kDefaultPort = 3306;
constexpr std::string_view kDefaultSocket = "/tmp/mysql.sock";
constexpr std::chrono::hours kLongestTimeout{24};

[[noreturn]] void refuse(std::string_view what) {
  throw UsageError(
      fmt::format("the MySQL database's location is malformed: {}; it has the form "
                  "user:password@tcp(host:port)/database?parameters",
                  what));
}

[[noreturn]] void refuse_parameter(std::string_view name, std::string_view what) {
  throw UsageError(fmt::format("the MySQL database's location: parameter '{}' {}", name, what));
}

/// Texts that error messages repeat are plain and short.
bool is_plain_name(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !text.empty() && text.size() <= 64 && text.find_first_not_of(kPlain) == std::string_view::npos;
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

void set_tcp_address(MysqlDsn& dsn, std::string_view address) {
  std::string_view host = address;
  std::string_view port;
  if (address.starts_with('[')) {
    const size_t close = address.find(']');
    if (close == std::string_view::npos) refuse("the address has '[' without ']'");
    host = address.substr(1, close - 1);
    port = address.substr(close + 1);
    if (!port.empty() && !port.starts_with(':')) refuse("something else than a port follows ']'");
  } else if (const size_t colon = address.find(':'); colon != std::string_view::npos) {
    if (address.find(':', colon + 1) != std::string_view::npos) {
      refuse("an IPv6 address goes into brackets: tcp([::1]:3306)");
    }
    host = address.substr(0, colon);
    port = address.substr(colon);
  }
  constexpr std::string_view kHostForm =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:%";
  if (host.find_first_not_of(kHostForm) != std::string_view::npos)
    refuse("the host's name has odd characters");
  dsn.host = host.empty() ? "127.0.0.1" : host;
  dsn.port = kDefaultPort;
  if (port.empty()) return;
  const auto result = std::from_chars(port.data() + 1, port.data() + port.size(), dsn.port);
  if (result.ec != std::errc() || result.ptr != port.data() + port.size() || dsn.port == 0) {
    refuse("the port is not a number of 1 to 65535");
  }
}

/// "tcp(host:port)", "unix(path)", "tcp", "unix" or nothing.
void set_address(MysqlDsn& dsn, std::string_view text) {
  const size_t open = text.find('(');
  const std::string_view protocol = text.substr(0, open);
  std::string_view address;
  if (open != std::string_view::npos) {
    if (!text.ends_with(')')) refuse("the address has '(' without ')' before the database's name");
    address = text.substr(open + 1, text.size() - open - 2);
  }
  if (protocol == "tcp" || text.empty()) {
    set_tcp_address(dsn, address);
  } else if (protocol == "unix") {
    dsn.socket = address.empty() ? kDefaultSocket : address;
    if (!dsn.socket.starts_with('/'))
      refuse("a socket needs an absolute path: unix(/run/mysqld/mysqld.sock)");
  } else {
    // What stands there may be a part of a password whose '@' is missing.
    refuse("the protocol is neither tcp nor unix");
  }
}

MysqlTls parse_tls(const std::string& value) {
  std::string lower = value;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "true" || lower == "1") return MysqlTls::kVerify;
  if (lower == "false" || lower == "0") return MysqlTls::kOff;
  if (lower == "skip-verify") return MysqlTls::kSkipVerify;
  if (lower == "preferred") return MysqlTls::kPreferred;
  refuse_parameter("tls",
                   "takes true, skip-verify, preferred or false; for a certificate of your own CA make this "
                   "system trust it (update-ca-certificates, or SSL_CERT_FILE) and say tls=true");
}

void set_parameter(MysqlDsn& dsn, std::string_view name, const std::string& value) {
  // They say how a Go program wants its texts and times; here there is one way.
  static constexpr std::array<std::string_view, 9> kWithoutEffect = {
      "allowNativePasswords", "charset",         "checkConnLiveness", "collation", "interpolateParams", "loc",
      "maxAllowedPacket",     "multiStatements", "parseTime"};
  if (name == "tls") {
    dsn.tls = parse_tls(value);
  } else if (name == "timeout") {
    dsn.connect_timeout = parse_go_duration(name, value);
  } else if (name == "readTimeout") {
    dsn.read_timeout = parse_go_duration(name, value);
  } else if (name == "writeTimeout") {
    dsn.write_timeout = parse_go_duration(name, value);
  } else if (std::find(kWithoutEffect.begin(), kWithoutEffect.end(), name) == kWithoutEffect.end()) {
    refuse_parameter(name,
                     "is unknown; there are tls, timeout, readTimeout, writeTimeout and, without "
                     "effect, charset, collation, parseTime and loc");
  }
}

void set_parameters(MysqlDsn& dsn, std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('&'), text.size());
    const std::string_view pair = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    const std::string_view name = pair.substr(0, equals);
    if (!is_plain_name(name)) refuse("a parameter's name has odd characters");
    if (equals == std::string_view::npos) refuse_parameter(name, "has no value");
    const std::optional<std::string> value = percent_decode(pair.substr(equals + 1));
    if (!value) refuse_parameter(name, "has a '%' without two hex digits");
    set_parameter(dsn, name, *value);
  }
}

}  // namespace

std::string MysqlDsn::place() const {
  if (!socket.empty()) return fmt::format("unix({})/{}", socket, database);
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return fmt::format("tcp({}{}{}:{})/{}", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port, database);
}

MysqlDsn parse_mysql_dsn(std::string_view text) {
  MysqlDsn dsn;
  if (text.empty()) refuse("it is empty");
  if (has_control_characters(text)) refuse("it holds control characters");
  // A password may hold any of the marks: each is looked for from the right.
  const size_t slash = text.rfind('/');
  if (slash == std::string_view::npos) refuse("there is no '/' in front of the database's name");
  std::string_view address = text.substr(0, slash);
  if (const size_t at = address.rfind('@'); at != std::string_view::npos) {
    const std::string_view login = address.substr(0, at);
    const size_t colon = login.find(':');
    dsn.user = login.substr(0, colon);
    if (colon != std::string_view::npos) dsn.password = login.substr(colon + 1);
    address.remove_prefix(at + 1);
  }
  set_address(dsn, address);
  const std::string_view rest = text.substr(slash + 1);
  const size_t question = std::min(rest.find('?'), rest.size());
  const std::optional<std::string> database = percent_decode(rest.substr(0, question));
  if (!database || database->empty() || database->size() > 64 || has_control_characters(*database)) {
    refuse("the database's name is missing or odd");
  }
  dsn.database = *database;
  if (question < rest.size()) set_parameters(dsn, rest.substr(question + 1));
  return dsn;
}

bool looks_like_mysql_dsn(std::string_view text) {
  for (const std::string_view start : {"tcp(", "unix("}) {
    for (size_t at = text.find(start); at != std::string_view::npos; at = text.find(start, at + 1)) {
      if ((at == 0 || text[at - 1] == '@') && text.find(")/", at) != std::string_view::npos) return true;
    }
  }
  return text.starts_with("mysql://");
}

std::chrono::milliseconds parse_go_duration(std::string_view parameter, std::string_view text) {
  struct Unit {
    std::string_view name;
    double milliseconds;
  };
  // Longer names first: "ms" starts with "m".
  static constexpr std::array kUnits = {Unit{"ns", 1e-6},      Unit{"us", 1e-3}, Unit{"\u00b5s", 1e-3},
                                        Unit{"\u03bcs", 1e-3}, Unit{"ms", 1},    Unit{"s", 1e3},
                                        Unit{"m", 60e3},       Unit{"h", 3600e3}};
  const auto fail = [&]() {
    refuse_parameter(parameter, "takes a duration of at most a day, such as 5s, 500ms or 1m30s");
  };
  double total = 0;
  if (text.empty()) fail();
  for (std::string_view rest = text; !rest.empty() && text != "0";) {
    const size_t digits = std::min(rest.find_first_not_of("0123456789."), rest.size());
    double number = 0;
    const auto result = std::from_chars(rest.data(), rest.data() + digits, number, std::chars_format::fixed);
    if (result.ec != std::errc() || result.ptr != rest.data() + digits) fail();
    rest.remove_prefix(digits);
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [&](const Unit& candidate) { return rest.starts_with(candidate.name); });
    if (unit == kUnits.end()) fail();
    rest.remove_prefix(unit->name.size());
    total += number * unit->milliseconds;
    if (total > static_cast<double>(std::chrono::milliseconds(kLongestTimeout).count())) fail();
  }
  // A nanosecond is not "no limit".
  return std::chrono::milliseconds(total > 0 && total < 1 ? 1 : static_cast<int64_t>(total));
}

}  // namespace obd::dedupdb
